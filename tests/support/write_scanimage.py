"""Writes a BigTIFF as ScanImage does, with the standard library only: header block at byte 16, Software tag, a description with
the time of each page, int16 pixels that may be negative. Knows nothing of the reader.

    python3 write_scanimage.py OUT.tif CHANNELS SLICES FLYBACK VOLUMES HEIGHT WIDTH RATE_HZ

Pixel (y, x) of page p is p * 7 - 50 + y * WIDTH + x; its time is p // CHANNELS / RATE_HZ + 0.25 s.
"""
import struct
import sys


def main():
    out = sys.argv[1]
    channels, slices, flyback, volumes, height, width = map(int, sys.argv[2:8])
    rate = float(sys.argv[8])
    save = "1" if channels == 1 else "[" + ";".join(str(c + 1) for c in range(channels)) + "]"
    fast = int(slices > 1)
    lines = [
        "SI.VERSION_MAJOR = 2022",
        "SI.hChannels.channelSave = " + save,
        f"SI.hFastZ.enable = {fast}",
        f"SI.hFastZ.discardFlybackFrames = {int(flyback > 0)}",
        f"SI.hFastZ.numDiscardFlybackFrames = {flyback}",
        f"SI.hStackManager.numSlices = {slices}",
        f"SI.hStackManager.actualNumSlices = {slices}",
        f"SI.hRoiManager.scanFrameRate = {rate}",
        f"SI.hRoiManager.scanVolumeRate = {rate / (slices + flyback)}",
    ]
    software = ("\n".join(lines) + "\n").encode() + b"\0"
    rois = b'{"RoiGroups": {}}\0'
    head = struct.pack("<IIII", 0x07030301, 4, len(software), len(rois)) + software + rois
    pages = channels * (slices + flyback) * volumes
    data = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) + head)
    link = 8
    for page in range(pages):
        pixels = struct.pack(f"<{height * width}h", *(page * 7 - 50 + i for i in range(height * width)))
        text = f"frameNumbers = {page // channels + 1}\nframeTimestamps_sec = {page // channels / rate + 0.25:.9f}\n".encode() + b"\0"
        place = {}
        for name, block in (("pixels", pixels), ("text", text), ("software", software)):
            data += b"\0" * (-len(data) % 8)
            place[name] = len(data)
            data += block
        data += b"\0" * (-len(data) % 8)
        directory = len(data)
        entries = [
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
            (270, 2, len(text), place["text"]), (273, 16, 1, place["pixels"]), (277, 3, 1, 1), (278, 4, 1, height),
            (279, 16, 1, len(pixels)), (305, 2, len(software), place["software"]), (339, 3, 1, 2),
        ]
        data += struct.pack("<Q", len(entries))
        for tag, kind, count, value in entries:
            data += struct.pack("<HHQQ", tag, kind, count, value)
        struct.pack_into("<Q", data, link, directory)
        link = len(data)
        data += struct.pack("<Q", 0)
    with open(out, "wb") as file:
        file.write(data)


main()
