"""A registry on port 5000 whose repositories are each wrong in one way, told by their names."""
import hashlib
import http.server
import json

LAYER = bytes(10240)
CONFIG = json.dumps({
    "os": "linux", "architecture": "amd64",
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(LAYER).hexdigest()]},
}).encode()
KIND = "application/vnd.docker.distribution.manifest.v2+json"


def entry(kind, data, **other):
    return {"mediaType": kind, "digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data), **other}


def manifest(config=CONFIG, layer=LAYER, **other):
    return json.dumps({
        "schemaVersion": 2, "mediaType": KIND,
        "config": entry("application/vnd.docker.container.image.v1+json", config),
        "layers": [entry("application/vnd.docker.image.rootfs.diff.tar", layer, **other)],
    }).encode()


MANIFESTS = {
    "text": b"<html>welcome</html>", "list": b"[]", "deep": b"[" * 100000, "empty": b"",
    "huge": b" " * (9 << 20), "minus": manifest(size=-1), "endless": manifest(size=1 << 62),
    "badconfig": manifest(config=b"{}"), "path": manifest(digest="sha256:../../../etc/passwd"),
}


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = self.path.split("/")
        if self.path == "/v2/":
            return self.say(b"{}")
        name, last = parts[2], parts[-1]
        if parts[3] == "manifests":
            body = MANIFESTS.get(name, manifest())
            if name == "cutmanifest":
                return self.say(body, KIND, cut=20)
            if name == "loop":
                return self.say(b"", status=307, location=self.path)
            if name == "teapot":
                return self.say(b"I am a teapot", status=418)
            digest = "sha256:" + "0" * 64 if name == "promise" else None
            return self.say(body, KIND, digest=digest)
        if last.endswith(hashlib.sha256(CONFIG).hexdigest()):
            return self.say(CONFIG[:-1] + b" " if name == "wrongconfig" else CONFIG)
        if name == "wronglayer":
            return self.say(b"\1" * len(LAYER))
        if name == "longlayer":
            return self.say(LAYER * 2)
        if name == "nolayer":
            return self.say(b"gone", status=404)
        if name == "badconfig":
            return self.say(b"{}")
        return self.say(LAYER)

    do_HEAD = do_GET

    def say(self, body, kind="application/json", status=200, cut=None, location=None, digest=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("0.0.0.0", 5000), Registry).serve_forever()
