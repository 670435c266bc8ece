"""Writes archives that no honest tool makes: layer-*.tar for import and cp, image-*.tar for load."""
import gzip
import hashlib
import io
import json
import sys
import tarfile

FOLDER = sys.argv[1]
KINDS = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE}


def tar(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, value in members:
            entry = tarfile.TarInfo(name)
            if kind == "file":
                entry.size = len(value)
                archive.addfile(entry, io.BytesIO(value))
            else:
                entry.type, entry.linkname = KINDS[kind], value
                archive.addfile(entry)
    return out.getvalue()


def image(layer, *, config=None, manifest=None, packed=None, diff=None):
    diff = diff or "sha256:" + hashlib.sha256(layer).hexdigest()
    config = config or {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff]}}
    manifest = manifest or [{"Config": "c.json", "RepoTags": ["evil:1"], "Layers": ["l.tar"]}]
    return tar(
        ("c.json", "file", json.dumps(config).encode()),
        ("l.tar", "file", packed or layer),
        ("manifest.json", "file", json.dumps(manifest).encode()),
    )


def write(name, data):
    with open(f"{FOLDER}/{name}.tar", "wb") as out:
        out.write(data)


LAYERS = {
    "up": tar(("../../../../../../run/escaped", "file", b"x")),
    "link": tar(("l", "link", "/run"), ("l/escaped", "file", b"x")),
    "linkup": tar(("a/l", "link", "../../../../../../run"), ("a/l/escaped", "file", b"x")),
    "hard": tar(("stolen", "hard", "../../../../../../run/secret")),
    "hardlink": tar(("l", "link", "/run"), ("stolen", "hard", "l/secret")),
    "whiteout": tar(("l", "link", "/run"), ("l/.wh.secret", "file", b"")),
    "opaque": tar(("l", "link", "/run"), ("l/.wh..wh..opq", "file", b"")),
}
for name, layer in LAYERS.items():
    write(f"layer-{name}", layer)
    write(f"image-{name}", image(layer))

good = tar(("f", "file", b"x"))
whole = image(good)
zeros = gzip.compress(bytes(64 << 20))
one = {"Config": "c.json", "RepoTags": ["evil:1"], "Layers": ["l.tar"]}
write("image-digest", image(good, diff="sha256:" + "0" * 64))
write("image-bomb", image(b"", packed=zeros, diff="sha256:" + "1" * 64))
write("image-config", image(good, config=[1]))
write("image-layerless", image(good, config={"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}))
other = {"os": "windows", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(good).hexdigest()]}}
write("image-os", image(good, config=other))
write("image-object", image(good, manifest={"Config": "c.json"}))
write("image-null", image(good, manifest=[None]))
write("image-missing", image(good, manifest=[{**one, "Layers": ["nosuch.tar"]}]))
write("image-outside", image(good, manifest=[{**one, "Config": "../../../../etc/passwd"}]))
write("image-name", image(good, manifest=[{**one, "RepoTags": ["BAD NAME"]}]))
write("image-symlink", tar(("c.json", "link", "/etc/passwd"), ("l.tar", "file", good), ("manifest.json", "file", json.dumps([one]).encode())))
write("image-short", whole[: len(whole) // 2])
write("image-empty", b"")
write("image-noise", bytes((n * n * 2654435761 >> 13) & 255 for n in range(3000)))
write("layer-noise", bytes((n * n * 2654435761 >> 13) & 255 for n in range(3000)))
