"""Verifies a ledger with no code of the gate's: python3 verify_ledger.py DIR [--key VKEY] [--checkpoint FILE]. Exit 0, or 1 and where."""
import argparse, base64, functools, hashlib, itertools, json, pathlib, re, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
def sha(*parts): return hashlib.sha256(b"".join(parts)).digest()
def grow(size, frontier, node):  # RFC 6962: the frontier is the roots of the complete subtrees, largest first
    while size & 1: node, size = sha(b"\1", frontier.pop(), node), size >> 1
    frontier.append(node)
def root(frontier): return functools.reduce(lambda right, left: sha(b"\1", left, right), frontier[::-1] or [sha()])
def refuse(why): raise ValueError(why)
def need(truth, why="it is not as the format has it"): return truth or refuse(why)
def unbase(text): return need(base64.b64encode(raw := base64.b64decode(text)).decode() == text) and raw
def canonical(line):  # RFC 8785: an object in the one way to write it; otherwise {}
    try: it = json.loads(line.decode(), parse_float=lambda _: need(False), parse_constant=lambda _: need(False))
    except (ValueError, RecursionError): return {}
    same = json.dumps(it, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace") == line
    return it if same and type(it) is dict and len(line) <= 1 << 20 else {}
def checkpoint(note):  # C2SP signed-note and tlog-checkpoint, with lines `time`, `prev` and `key` of the gate's
    text, _, below = note.decode().rpartition("\n\n")
    (origin, size, top, *more), by = text.split("\n"), [need(line[:2] == "\u2014 ") and line[2:].split(" ") for line in below[:-1].split("\n")]
    return dict(line.split(" ", 1) for line in more) | dict(text=text.encode() + b"\n", origin=origin, size=int(size),
        root=unbase(top), by=[(name, unbase(blob)) for name, blob in by], digest=sha(text.encode(), b"\n"))
def signed(note, vkey):  # C2SP: a key's name and id say which signature is its own
    name, ident, public = vkey.split("+", 2)
    for blob in need([blob[4:] for by, blob in note["by"] if (by, blob[:4].hex()) == (name, ident)], f"it is not signed by {vkey}"):
        Ed25519PublicKey.from_public_bytes(unbase(public)[1:]).verify(blob, note["text"])
def chain(file, first, at):  # of checkpoints, and of the keys that sign them
    begin, good, keys, notes = 1, [], [], re.findall(rb"(?s)(.*?\n\n.*?\n)\n", file)
    for note in notes[:-1] if notes and b"\0" in notes[-1] else notes:  # zeros at the end are what power loss left
        at[0], begin = f"checkpoints:{begin}", begin + note.count(b"\n") + 1
        it, last = checkpoint(note) | dict(at=at[0]), good[-1] if good else {}
        for key in keys[-1:] + [it[name] for name in it if name == "key"]: signed(it, key)
        need(it["size"] >= last["size"] and it["origin"] == last["origin"] if last else "key" in it and "prev" not in it, "one is missing")
        need(not last or unbase(it["prev"]) == last["digest"] or it["size"] <= first > 0, "one was removed, inserted or moved")
        good, keys = [*good, it], keys + [it[name] for name in it if name == "key"]
    return good, keys
def lines(read, segments):  # -> place, segment, line
    for name, after in zip(segments, segments[1:] + [None]):
        it = canonical(read(after).split(b"\n", 1)[0]) if after else {}  # where the disk failed, only so much of it counts
        text = read(name)[:it.get("kept_bytes") if [it.get(key) for key in ("kind", "change", "segment")] == ["gate", "fault", name] else None]
        *whole, torn = text.split(b"\n") if after else [*text.split(b"\0")[0].split(b"\n")[:-1], b""]
        yield from ((f"{name}:{count}", name, line) for count, line in enumerate(whole + [b""] * bool(torn), 1))
def verify(directory, vkey, held, at):  # -> first seq, behind the last proven one, behind the last; at[0] says where it is
    read = lambda name: path.read_bytes() if (path := pathlib.Path(directory) / name).exists() else b""
    file, segments = read("checkpoints"), sorted(it.name for it in pathlib.Path(directory).glob("[0-9]" * 16 + ".jsonl"))
    size = first = int((segments or ["0"])[0][:16])
    notes, keys = chain(file, first, at)
    said = [canonical(text) | dict(at=f"roots:{number}") for number, text in enumerate(read("roots").split(b"\n")[:-1], 1)]
    roots = {it["segment"]: it for it in said if "segment" in it}
    start, due = roots.get(segments[0], {}) if first else dict(head="00" * 32, frontier=[]), notes[:]
    at[0], dropped = start.get("at", f"{first:016}.jsonl:1"), 0  # where dropped segments ended
    head, frontier = bytes.fromhex(start["head"]), [bytes.fromhex(node) for node in start["frontier"]]
    need(len(frontier) == size.bit_count() and start.get("size", 0) == size)
    for place, name, line in itertools.chain(lines(read, segments), [("", "", None)]):
        while due and due[0]["size"] <= size:
            at[0], note = due[0]["at"], due.pop(0)
            need(note["size"] < size or note["root"] == root(frontier), "it was signed over other records")
        if line is not None:
            at[0], it, begun = place, canonical(line), roots.get(name) if place == f"{name}:1" else None
            need((it.get("seq"), type(it.get("seq")), type(it.get("kind"))) == (size, int, str), f"it is not record {size}")
            need(place != f"{name}:1" or int(name[:16]) == size, "the segment's name is not its first seq")
            need(it["prev"] == head.hex(), "its prev is not the digest of the line before: one of the two was changed")
            at[0], now = begun["at"] if begun else place, dict(frontier=[node.hex() for node in frontier], head=head.hex(), size=size)
            need(not begun or now.items() <= begun.items(), "the records before this segment have another root")
            size, head, _ = size + 1, sha(line), grow(size, frontier, sha(b"\0", line))
            if (it["kind"], it.get("change")) == ("gate", "dropped"): dropped = it.get("first")
    at[0] = due[0]["at"] if due else "all" if dropped == first else f"{first:016}.jsonl:1"
    need(not due, f"it covers more than the {size} records that there are: some were cut off")
    need(dropped == first, "the segments before this one are missing, and no record says that they were dropped")
    need((segments or file) and (notes or not roots or not size), "there is no ledger, or its checkpoints are gone")
    need(vkey in [None, *keys], "nothing is signed by the key that was given: another log, or one that was made again")
    it = checkpoint(pathlib.Path(held).read_bytes()) if held else notes[-1] if notes else dict(size=-1)
    need(it["size"] < first or it["digest"] in [note["digest"] for note in notes], "the checkpoint that was given is none of these")
    return first, max(first, notes[-1]["size"] if notes else 0), size
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("directory", "--key", "--checkpoint"): parser.add_argument(name)
    given, at, said = parser.parse_args(), ["all"], "records {} up to {} are as they were signed, of {}; none can show what was cut off"
    try: print(said.format(*verify(given.directory, given.key, given.checkpoint, at)))
    except Exception as why: sys.exit(f"FAULT at {at[0]}: {str(why) or type(why).__name__}")
