#!/usr/bin/env python3
"""Writes what the program is made of to standard output, as a software bill of materials (CycloneDX 1.5, JSON): every crate with version,
licence and the SHA-256 that Cargo.lock pins. The same tree gives the same bytes. Needs cargo; no network.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent


def crates():
    """Name, version and licence of every crate of the program with its default features, the C libraries' crates included."""
    command = "cargo tree --locked --offline --edges normal,build --prefix none --format {p}|{l}".split()
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in sorted({line.removesuffix(" (*)") for line in lines if line}):
        package, licence = line.split("|")
        name, version = package.split(" ")[:2]
        yield name, version.removeprefix("v"), licence.replace(" / ", "/").replace("/", " OR ")


def component(name, version, licence, checksums):
    found = {
        "type": "library",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
        "licenses": [{"expression": licence}],
    }
    if checksum := checksums.get((name, version)):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def main():
    lock = (ROOT / "Cargo.lock").read_text()
    pinned = re.findall(r'name = "(.+)"\nversion = "(.+)"\nsource = .+\nchecksum = "(.+)"', lock)
    checksums = {(name, version): checksum for name, version, checksum in pinned}
    found = [component(*crate, checksums) for crate in crates()]
    own = next(crate for crate in found if crate["name"] == "haltere")
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(lock.encode()).hexdigest())}",
        "version": 1,
        "metadata": {"component": own | {"type": "application"}},
        "components": [crate for crate in found if crate is not own],
    }
    print(json.dumps(bill, indent=1))


if __name__ == "__main__":
    main()
