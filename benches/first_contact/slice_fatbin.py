"""Cuts a CUDA library to the machine code of one architecture, in place of some 280 MB.

slice_fatbin.py LIBRARY.so OUT.so [--arch 90] [--all]

The file keeps its length and layout: entries of other architectures, and code that no model of haltere's calls (attention, mixtures of experts,
CUTLASS), become zeros, which any compressor removes. `--all` keeps all code of the architecture. Needs `zstandard` where the code is packed, unless
`--all` is given.
"""
import argparse
import collections
import re
import struct

MAGIC = 0xBA55ED50
NEVER_CALLED = re.compile(rb"flash|[mM]oe|M[oO]E|cutlass|kernel_mha|attention_kernel")
NAMED = re.compile(rb"\.text\.([A-Za-z0-9_$]+)")


def section(library, wanted):
    """Offset and length of an ELF section."""
    (table,) = struct.unpack_from("<Q", library, 40)
    size, count, names = struct.unpack_from("<HHH", library, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", library, table + n * size) for n in range(count)]
    for header in headers:
        at = headers[names][4] + header[0]
        if library[at : library.index(b"\0", at)] == wanted:
            return header[4], header[5]
    raise SystemExit(f"the library has no section {wanted.decode()}")


def unpacked(entry, header_bytes, payload_bytes):
    """The machine code of an entry."""
    (compressed,) = struct.unpack_from("<I", entry, 16)
    (length,) = struct.unpack_from("<Q", entry, 56)
    payload = bytes(entry[header_bytes : header_bytes + (compressed or payload_bytes)])
    if not compressed:
        return payload
    import zstandard

    return zstandard.ZstdDecompressor().decompress(payload, max_output_size=length or 1 << 28)


def kept(entry, header_bytes, payload_bytes, arch, everything):
    """Does the entry stay?"""
    if struct.unpack_from("<I", entry, 28)[0] != arch:
        return False
    return everything or not any(NEVER_CALLED.search(name) for name in NAMED.findall(unpacked(entry, header_bytes, payload_bytes)))


def cut(library, arch, everything):
    """Cuts `library` in place; counts entries and bytes that stay and go."""
    at, length = section(library, b".nv_fatbin")
    end, counts = at + length, collections.Counter()
    while at < end:
        magic, _, header_bytes, body_bytes = struct.unpack_from("<IHHQ", library, at)
        if magic != MAGIC:
            at += 8
            continue
        begin, body = at + header_bytes, bytearray()
        here, stop = begin, begin + body_bytes
        while here < stop:
            _, _, entry_header, payload = struct.unpack_from("<HHIQ", library, here)
            entry = library[here : here + entry_header + payload]
            stays = kept(entry, entry_header, payload, arch, everything)
            counts["entries kept" if stays else "entries cut"] += 1
            counts["bytes kept" if stays else "bytes cut"] += len(entry)
            body += entry if stays else b""
            here += len(entry)
        struct.pack_into("<Q", library, at + 8, len(body))
        library[begin:stop] = body + bytes(body_bytes - len(body))
        at = stop
    return counts


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("library")
    arguments.add_argument("out")
    arguments.add_argument("--arch", type=int, default=90)
    arguments.add_argument("--all", action="store_true")
    given = arguments.parse_args()
    with open(given.library, "rb") as source:
        library = bytearray(source.read())
    print(dict(cut(library, given.arch, given.all)))
    with open(given.out, "wb") as out:
        out.write(library)


if __name__ == "__main__":
    main()
