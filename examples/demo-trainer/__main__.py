"""A stand-in for a training job: writes one checkpoint, then shows a web page until it is stopped."""

import argparse
import http.server
import json
import os
import struct


def write_checkpoint(folder, step):
    """A checkpoint as trainers write it: the weights first, the marker last."""
    os.makedirs(folder, exist_ok=True)
    data = bytes(index % 251 for index in range(4 * 1024 * 1024))
    header = json.dumps({"weight": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data)
    with open(os.path.join(folder, "trainer_state.json"), "w") as file:
        json.dump({"global_step": step}, file)


class Page(http.server.BaseHTTPRequestHandler):
    """One page, so that readiness is proven by HTTP."""

    def do_GET(self):
        body = b"<h1>demo trainer</h1><p>step 100 is written</p>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        print(format % arguments, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    write_checkpoint(os.path.join("checkpoints", "step-100"), 100)
    print(f"step 100 written; serving on {port}", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Page).serve_forever()
