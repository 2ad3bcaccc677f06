"""The verifier for auditors, over many directories in one process: a line each of directory, key and checkpoint in, a verdict out."""
import pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
import verify_ledger

for line in sys.stdin:
    directory, key, held = line.rstrip("\n").split("\t")
    at = ["all"]
    try:
        print("ok", *verify_ledger.verify(directory, key or None, held or None, at), flush=True)
    except Exception as why:
        print("fault", at[0], repr(why).replace("\n", " "), flush=True)
