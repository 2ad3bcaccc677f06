"""From raw rounds to a table in Markdown and plots in SVG: medians over the rounds, with the smallest and the largest."""

import json
import statistics

ORDER = ["direct", "nginx", "haproxy", "envoy", "gate"]


class Rounds:
    def __init__(self, path):
        self.rows = [json.loads(line) for line in path.read_text().splitlines()]

    def of(self, case, **fixed):
        return [row for row in self.rows if row["case"] == case and all(row.get(name) == value for name, value in fixed.items())]

    def values(self, case, name, **fixed):
        return [row[name] for row in self.of(case, **fixed) if name in row]

    def median(self, case, name, **fixed):
        found = self.values(case, name, **fixed)
        return statistics.median(found) if found else None

    def different(self, case, name, **fixed):
        """The values that rows of the case have there, in the order in which they come first."""
        return list(dict.fromkeys(row[name] for row in self.of(case, **fixed) if name in row))

    def peers(self, case, **fixed):
        found = self.different(case, "peer", **fixed)
        return [name for name in ORDER if name in found]


def number(value, digits=1, unit=""):
    if value is None:
        return ""
    return f"{value:,.{digits}f}{unit}"


def ranged(values, digits=1):
    """The median, and in brackets the smallest and the largest."""
    if not values:
        return ""
    if len(values) == 1:
        return number(values[0], digits)
    return f"{number(statistics.median(values), digits)} ({number(min(values), digits)} to {number(max(values), digits)})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join(lines)


def ratio(value, base):
    return "" if value is None or not base else f"{value / base:.2f}"


def write(path):
    rounds = Rounds(path)
    parts = [about(rounds)]
    for make in (calls, ratios, latency, post, counts, features, growth, protocols, streams, idle, holds):
        made = make(rounds)
        if made:
            parts.append(made)
    target = path.with_suffix(".md")
    target.write_text("\n\n".join(parts) + "\n")
    drawn = [target] + [plot for plot in plots(rounds, path) if plot]
    print("wrote", *drawn)


def about(rounds):
    machines = rounds.of("machine")
    one = machines[-1]
    versions = {}
    for row in machines:
        versions.update(row["versions"])
    said = [f"Measured {one['time'][:10]} on {one['cores']} cores of a {'virtual ' if one['virtual'] else ''}machine ({one['cpu']}, {one['memory_gib']} GiB, "
            f"Linux {one['kernel']}, {one['system']}), by"]
    said += ["", "```sh", *dict.fromkeys(row["command"] for row in machines), "```", ""]
    said.append("Versions: " + ", ".join(f"{name} {versions[name]}" for name in ORDER if name in versions) + ".")
    others = [row["others"] for row in rounds.rows if "others" in row]
    if others:
        said.append(f"Figures are medians over the rounds, in brackets the smallest and the largest. Other programs used {statistics.median(others):.2f} "
                    f"cores meanwhile (median; {max(others):.2f} at most).")
    return "\n".join(said)


def calls(rounds):
    parts = []
    for workers in rounds.different("calls", "workers"):
        many = rounds.different("calls", "connections", workers=workers)
        rows = []
        for variant in rounds.different("calls", "variant", workers=workers):
            for peer in rounds.peers("calls", workers=workers, variant=variant):
                fixed = {"workers": workers, "variant": variant, "peer": peer}
                if peer == "direct":
                    cells = [""] * len(many)
                else:
                    cells = [ranged(rounds.values("calls", "cpu_us", connections=each, **fixed)) for each in many]
                cells += [number(rounds.median("calls", "rps", connections=each, **fixed), 0) for each in many]
                memory = rounds.median("calls", "memory_kib", connections=max(many), **fixed)
                name = peer if variant == "policy" or peer == "direct" else f"{peer}, plain"
                rows.append((peer != "direct" and variant == "plain", [name, *cells, number(memory / 1024, 0) if memory else ""]))
        rows = [cells for _, cells in sorted(rows, key=lambda row: row[0])]
        head = [f"GET, {workers} worker{'s' * (workers > 1)}", *(f"CPU us a call @{each}" for each in many), *(f"calls/s @{each}" for each in many), "memory MiB"]
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def ratios(rounds):
    """The gate against each peer: below 1 it costs less."""
    rows = []
    for peer in rounds.peers("calls", variant="policy"):
        if peer == "gate":
            continue
        cells = []
        for each in rounds.different("calls", "connections"):
            fixed = {"workers": 1, "connections": each, "variant": "policy"}
            cells.append(ratio(rounds.median("calls", "cpu_us", peer="gate", **fixed), rounds.median("calls", "cpu_us", peer=peer, **fixed)))
        for each in rounds.different("calls", "connections"):
            fixed = {"workers": 2, "connections": each, "variant": "policy"}
            cells.append(ratio(rounds.median("calls", "rps", peer="gate", **fixed), rounds.median("calls", "rps", peer=peer, **fixed)))
        rows.append([peer, *cells])
    if not rows or not rounds.values("calls", "cpu_us", peer="gate"):
        return ""
    many = rounds.different("calls", "connections")
    return table(["the gate, as a multiple of", *(f"CPU @{each}" for each in many), *(f"throughput on 2 workers @{each}" for each in many)], rows)


def added(rounds, peer, rate, name):
    """Above the direct line of the same round."""
    direct = {row["round"]: row[name] for row in rounds.of("latency", peer="direct", rate=rate)}
    return [row[name] - direct[row["round"]] for row in rounds.of("latency", peer=peer, rate=rate) if row["round"] in direct]


def latency(rounds):
    rates = rounds.different("latency", "rate")
    rows = []
    for peer in rounds.peers("latency"):
        if peer == "direct":
            cells = [ranged(rounds.values("latency", name, peer=peer, rate=rate), 0) for rate in rates for name in ("p50", "p99")]
            rows.append(["direct line, as it is", *cells])
        else:
            rows.append([peer, *(ranged(added(rounds, peer, rate, name), 0) for rate in rates for name in ("p50", "p99"))])
    return rows and table(["us added to a call", *(f"{name} @{rate:,}/s" for rate in rates for name in ("p50", "p99"))], rows)


def post(rounds):
    base = rounds.median("post", "cpu_us", peer="nginx")
    rows = []
    for peer in rounds.peers("post"):
        used = rounds.values("post", "cpu_us", peer=peer)
        rows.append([peer, "" if peer == "direct" else ranged(used), "" if peer == "direct" else ratio(statistics.median(used), base),
                     number(rounds.median("post", "rps", peer=peer), 0)])
    return rows and table(["POST of 64 KiB @32, one worker", "CPU us a call", "of nginx's", "calls/s"], rows)


def counts(rounds):
    rows = []
    for row in sorted(rounds.of("counts"), key=lambda row: (row["variant"] == "plain", ORDER.index(row["peer"]))):
        calls = row["system_calls"]
        shown = ", ".join(f"{name} {each:g}" for name, each in sorted(calls.items(), key=lambda it: -it[1])[:6])
        name = row["peer"] + (", plain" if row["variant"] == "plain" else "")
        rows.append([name, number(row.get("instructions"), 0) or "not counted", number(sum(calls.values()), 2), shown])
    return rows and table(["counted @32, one worker", "instructions in user space of a call", "system calls of a call", "of which"], rows)


def features(rounds):
    import peers

    rows = []
    for name in [each or "gate" for each in peers.VARIANTS]:
        used = rounds.values("features", "cpu_us", variant=name)
        if not used:
            continue
        base = rounds.median("features", "cpu_us", variant="post" if name == "body" else "gate")
        own = name in ("gate", "post")
        rows.append([peers.VARIANTS["" if name == "gate" else name], ranged(used), "" if own else f"{statistics.median(used) - base:+.1f}",
                     number(rounds.median("features", "rps", variant=name), 0)])
    return rows and table(["the gate @32, one worker", "CPU us a call", "more", "calls/s"], rows)


def growth(rounds):
    rows = []
    for what in rounds.different("growth", "variant"):
        sizes = rounds.different("growth", "size", variant=what)
        base = rounds.median("growth", "cpu_us", variant=what, size=sizes[0])
        for size in sizes:
            used = rounds.values("growth", "cpu_us", variant=what, size=size)
            memory = rounds.median("growth", "memory_kib", variant=what, size=size)
            rows.append([f"{size:,} {what}", ranged(used), ratio(statistics.median(used), base), number(memory / 1024, 0)])
    return rows and table(["the gate @32, one worker", "CPU us a call", "of the smallest's", "memory MiB"], rows)


def protocols(rounds):
    rows = []
    for way in rounds.different("protocols", "variant"):
        base = rounds.median("protocols", "cpu_us", variant=way, peer="nginx")
        for peer in rounds.peers("protocols", variant=way):
            used = rounds.values("protocols", "cpu_us", variant=way, peer=peer)
            rows.append([way, peer, ranged(used), ratio(statistics.median(used), base), number(rounds.median("protocols", "rps", variant=way, peer=peer), 0)])
    return rows and table(["32 connections, one worker", "", "CPU us a call", "of nginx's", "calls/s"], rows)


def streams(rounds):
    rows = []
    for peer in rounds.peers("streams"):
        values = [rounds.median("streams", name, peer=peer) for name in ("cpu_us", "p50", "p99", "memory_kib")]
        rows.append([peer, number(values[0]) if peer != "direct" else "", number(values[1] / 1000), number(values[2] / 1000), number(values[3] / 1024, 0) if values[3] else ""])
    count = rounds.different("streams", "streams")
    return rows and table([f"an event to {count[0]:,} streams, 20 a second", "CPU us of each", "ms until half have it", "ms until 99 of 100 have it", "memory MiB"], rows)


def idle(rounds):
    rows = []
    for peer in rounds.peers("idle"):
        row = rounds.of("idle", peer=peer)[-1]
        rows.append([peer, number(row["each_bytes"] / 1024), number(row["memory_kib"] / 1024, 0)])
    many = rounds.different("idle", "connections")
    return rows and table([f"{many[0]:,} idle connections, one call made on each", "KiB each", "MiB in all"], rows)


def holds(rounds):
    if not rounds.of("holds"):
        return ""
    held = rounds.different("holds", "held")[-1]
    rows = [[f"{held:,}", number(rounds.median("holds", "each_bytes") / 1024), ranged(rounds.values("holds", "cpu_us_without")), ranged(rounds.values("holds", "cpu_us"))]]
    return table(["calls that wait for a person", "KiB each, connection included", "CPU us of another call @32 without them", "with them"], rows)


def plots(rounds, path):
    many = rounds.different("calls", "connections", workers=1)
    groups = []
    for variant in ("policy", "plain"):
        for peer in rounds.peers("calls", workers=1, variant=variant):
            if peer != "direct":
                name = peer if variant == "policy" else f"{peer}, plain"
                groups.append((name, [rounds.values("calls", "cpu_us", workers=1, variant=variant, peer=peer, connections=each) for each in many]))
    yield bars(path, "cpu", "Processor time of a call, one worker", "us", [f"{each} connections" for each in many], groups)
    rates = rounds.different("latency", "rate")
    if rates:
        groups = [(peer, [added(rounds, peer, rates[-1], name) for name in ("p50", "p99")]) for peer in rounds.peers("latency") if peer != "direct"]
        yield bars(path, "latency", f"Added to a call at {rates[-1]:,} a second", "us", ["half of them", "99 of 100"], groups)
    groups = [(name, [rounds.values("features", "cpu_us", variant=name)]) for name in rounds.different("features", "variant")]
    order = ["gate", "no-limit", "no-resource", "beside", "limits", "condition", "batched", "sync", "post", "body"]
    groups.sort(key=lambda group: order.index(group[0]))
    yield bars(path, "features", "The gate with more and with less: processor time of a call", "us", ["32 connections"], groups)
    groups = [(f"{size:,} {what}", [rounds.values("growth", "cpu_us", variant=what, size=size)])
              for what in rounds.different("growth", "variant") for size in rounds.different("growth", "size", variant=what)]
    yield bars(path, "growth", "The gate as it grows: processor time of a call", "us", ["32 connections"], groups)


STYLE = """<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 15px } .faint { fill: #59636e } .own { font-weight: 600 } .line { stroke: #59636e; stroke-width: 1.5 }
.s0 { fill: #1f6feb } .s1 { fill: #9a6700 }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .faint { fill: #9198a1 } .line { stroke: #9198a1 } .s0 { fill: #4493f8 } .s1 { fill: #d29922 } }
</style>"""


def bars(path, name, title, unit, series, groups):
    """Horizontal bars, medians, with a line from the smallest to the largest value."""
    groups = [(label, values) for label, values in groups if any(values)]
    if not groups:
        return None
    left, width, bar, gap = 150, 520, 14, 12
    most = max(max(each) for _, values in groups for each in values if each)
    scale = width / most
    top = 34 + (22 if len(series) > 1 else 4)
    each_group = len(series) * (bar + 2) + gap
    height = top + len(groups) * each_group
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 110}" height="{height}" viewBox="0 0 {left + width + 110} {height}" role="img">',
             f"<title>{title}</title>", STYLE, f'<text class="title" x="8" y="22">{title} <tspan class="faint">({unit})</tspan></text>']
    if len(series) > 1:
        for at, label in enumerate(series):
            x = left + at * 150
            lines.append(f'<rect class="s{at}" x="{x}" y="34" width="12" height="12" rx="2"/><text class="faint" x="{x + 18}" y="44">{label}</text>')
    for row, (label, values) in enumerate(groups):
        y = top + row * each_group
        middle = y + len(series) * (bar + 2) / 2 + 4
        own = " own" if label.startswith("gate") else ""
        lines.append(f'<text class="{own.strip() or "other"}" x="{left - 10}" y="{middle:.1f}" text-anchor="end">{label}</text>')
        for at, each in enumerate(values):
            if not each:
                continue
            value = statistics.median(each)
            here = y + at * (bar + 2)
            lines.append(f'<rect class="s{at}" x="{left}" y="{here}" width="{max(1, value * scale):.1f}" height="{bar}" rx="2"/>')
            if len(each) > 1:
                lines.append(f'<line class="line" x1="{left + min(each) * scale:.1f}" x2="{left + max(each) * scale:.1f}" y1="{here + bar / 2}" y2="{here + bar / 2}"/>')
            end = left + max(value, *each) * scale
            lines.append(f'<text x="{end + 6:.1f}" y="{here + bar - 3}">{value:.1f}</text>')
    lines.append("</svg>")
    target = path.with_name(f"{path.stem}-{name}.svg")
    target.write_text("\n".join(lines) + "\n")
    return target
