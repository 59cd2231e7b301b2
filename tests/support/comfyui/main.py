"""A stand-in for ComfyUI: its arguments, its way of loading custom nodes with the lines it prints, and the few routes
that tell what it can run. Custom nodes are really imported, models are really files. Faults come from faults.json in
the working folder: {"hang": true, "never_ready": true, "no_auto_launch_flag": true, "silent_socket": true}.

It has the queue of ComfyUI too: POST /prompt, GET /prompt and the WebSocket, whose messages about a job go to the client
that sent it, or to everybody where nobody did. A job is one node: {"class_type": "Steps", "inputs": {"count": 3,
"seconds": 0.1}}; with {"fault": "an illegal memory access was encountered"} it fails as PyTorch does.
"""
import argparse
import base64
import hashlib
import importlib.util
import json
import logging
import os
import queue
import sys
import threading
import time
import traceback
from urllib.parse import parse_qs, urlparse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = os.path.dirname(os.path.realpath(__file__))
FOLDERS = {"checkpoints": "checkpoints", "loras": "loras", "vae": "vae", "diffusion_models": "diffusion_models"}
NODE_CLASS_MAPPINGS = {}


def read_faults():
    try:
        with open(os.path.join(HERE, "faults.json"), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def model_files(folder):
    root = os.path.join(HERE, "models", FOLDERS[folder])
    found = []
    for path, _, names in os.walk(root):
        found += [os.path.relpath(os.path.join(path, name), root) for name in names]
    return sorted(found)


class CheckpointLoaderSimple:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"ckpt_name": (model_files("checkpoints"), {"tooltip": "a model"})}}


class KSampler:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {"max": float("inf")}), "sampler_name": (["euler", "ddim"],)}}


class LoraLoader:
    """In the newer form of an input that is chosen from a list."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"lora_name": ("COMBO", {"options": model_files("loras")}), "strength": ("FLOAT", {})}}


class SaveImage:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"filename_prefix": ("STRING", {"default": "ComfyUI"})}}


def execute_prestartup_script():
    times = []
    root = os.path.join(HERE, "custom_nodes")
    for name in sorted(os.listdir(root)):
        script = os.path.join(root, name, "prestartup_script.py")
        if not os.path.exists(script) or name.endswith(".disabled"):
            continue
        success = True
        try:
            spec = importlib.util.spec_from_file_location("prestartup", script)
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except Exception as e:
            logging.error(f"Failed to execute startup-script: {script} / {e}")
            success = False
        times.append((0.0, os.path.dirname(script), success))
    if times:
        logging.info("\nPrestartup times for custom nodes:")
        for seconds, path, success in times:
            logging.info("{:6.1f} seconds{}: {}".format(seconds, "" if success else " (PRESTARTUP FAILED)", path))
        logging.info("")


def load_custom_node(path):
    try:
        target = path if os.path.isfile(path) else os.path.join(path, "__init__.py")
        name = path.replace(".", "_x_")
        spec = importlib.util.spec_from_file_location(name, target)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        if getattr(module, "NODE_CLASS_MAPPINGS", None) is None:
            logging.warning(
                f"Skip {path} module for custom nodes due to the lack of NODE_CLASS_MAPPINGS or NODES_LIST (need one)."
            )
            return False
        for class_name, node in module.NODE_CLASS_MAPPINGS.items():
            NODE_CLASS_MAPPINGS[class_name] = node
            node.RELATIVE_PYTHON_MODULE = "custom_nodes." + os.path.splitext(os.path.basename(path))[0]
        return True
    except Exception as e:
        logging.warning(traceback.format_exc())
        logging.warning(f"Cannot import {path} module for custom nodes: {e}")
        return False


def init_external_custom_nodes():
    times = []
    root = os.path.join(HERE, "custom_nodes")
    for name in sorted(os.listdir(root)):
        path = os.path.join(root, name)
        if name == "__pycache__" or name.endswith(".disabled"):
            continue
        if os.path.isfile(path) and not name.endswith(".py"):
            continue
        times.append((0.0, path, load_custom_node(path)))
    if times:
        logging.info("\nImport times for custom nodes:")
        for seconds, path, success in times:
            logging.info("{:6.1f} seconds{}: {}".format(seconds, "" if success else " (IMPORT FAILED)", path))
        logging.info("")


def node_info(name):
    node = NODE_CLASS_MAPPINGS[name]
    return {
        "input": node.INPUT_TYPES(),
        "name": name,
        "python_module": getattr(node, "RELATIVE_PYTHON_MODULE", "nodes"),
    }


class PromptQueue:
    """One job at a time, in their order; whoever listens is told when their number changes."""

    def __init__(self):
        self.waiting = queue.Queue()
        self.remaining = 0
        self.sockets = {}
        self.lock = threading.Lock()

    def info(self):
        return {"exec_info": {"queue_remaining": self.remaining}}

    def put(self, prompt, client_id):
        self.change(1)
        self.waiting.put((prompt, client_id))

    def change(self, by):
        self.remaining += by
        self.send("status", {"status": self.info()}, None)

    def send(self, kind, data, sid):
        if read_faults().get("silent_socket"):
            return
        with self.lock:
            sockets = list(self.sockets.values()) if sid is None else [self.sockets[sid]] if sid in self.sockets else []
            for write in sockets:
                write(json.dumps({"type": kind, "data": data}))

    def work(self):
        while True:
            prompt, client_id = self.waiting.get()
            try:
                for node in prompt.values():
                    run_steps(node.get("inputs", {}), client_id)
            except RuntimeError as e:
                logging.error("!!! Exception during processing !!! %s", e)
                logging.error(traceback.format_exc())
            self.change(-1)


def run_steps(inputs, client_id):
    count = inputs.get("count", 1)
    for done in range(1, count + 1):
        time.sleep(inputs.get("seconds", 0.05))
        PROMPTS.send("progress", {"value": done, "max": count, "prompt_id": "1", "node": "1"}, client_id)
        sys.stderr.write(f"\r{100 * done // count:3d}%|####      | {done}/{count} [00:01<00:01,  1.00it/s]")
        sys.stderr.flush()
    sys.stderr.write("\n")
    if "fault" in inputs:
        raise RuntimeError("CUDA error: " + inputs["fault"] + "\nCUDA kernel errors might be reported at some other call")


PROMPTS = PromptQueue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if read_faults().get("hang"):
            time.sleep(3600)
        path = self.path[4:] if self.path.startswith("/api/") else self.path
        if urlparse(path).path == "/ws":
            return self.serve_socket(parse_qs(urlparse(path).query).get("clientId", [""])[0])
        if path == "/prompt":
            return self.answer_json(PROMPTS.info())
        if path == "/":
            return self.answer(200, "text/html", "<title>ComfyUI</title>" + json.dumps(dict(self.headers)))
        if path == "/system_stats":
            return self.answer_json({"system": {"comfyui_version": "stand-in", "argv": sys.argv}, "devices": []})
        if path == "/object_info":
            return self.answer_json({name: node_info(name) for name in NODE_CLASS_MAPPINGS})
        folder = path[len("/models/"):]
        if path.startswith("/models/") and folder in FOLDERS:
            return self.answer_json(model_files(folder))
        return self.answer(404, "text/plain", "404: Not Found")

    def do_POST(self):
        if self.path not in ("/prompt", "/api/prompt"):
            return self.answer(404, "text/plain", "404: Not Found")
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        PROMPTS.put(body["prompt"], body.get("client_id"))
        return self.answer_json({"prompt_id": "1", "number": 0, "node_errors": {}})

    def serve_socket(self, sid):
        """RFC 6455, as far as a listener needs it: what it sends is read away until it goes."""
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()

        def write(text):
            data = text.encode()
            head = bytes([0x81, len(data)]) if len(data) < 126 else bytes([0x81, 126]) + len(data).to_bytes(2, "big")
            try:
                self.connection.sendall(head + data)
            except OSError:
                pass

        with PROMPTS.lock:
            PROMPTS.sockets[sid] = write
            if not read_faults().get("silent_socket"):
                write(json.dumps({"type": "status", "data": {"status": PROMPTS.info(), "sid": sid}}))
        while self.connection.recv(4096):
            pass
        with PROMPTS.lock:
            PROMPTS.sockets.pop(sid, None)
        self.close_connection = True

    def answer_json(self, value):
        self.answer(200, "application/json", json.dumps(value))

    def answer(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    faults = read_faults()
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=str, default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--auto-launch", action="store_true")
    if not faults.get("no_auto_launch_flag"):
        parser.add_argument("--disable-auto-launch", action="store_true", help="Disable auto launching the browser.")
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.makedirs(os.path.join(HERE, "custom_nodes"), exist_ok=True)
    for node in (CheckpointLoaderSimple, KSampler, LoraLoader, SaveImage):
        NODE_CLASS_MAPPINGS[node.__name__] = node
    execute_prestartup_script()
    init_external_custom_nodes()
    while faults.get("never_ready"):
        time.sleep(1)
    threading.Thread(target=PROMPTS.work, daemon=True).start()
    server = ThreadingHTTPServer((args.listen, args.port), Handler)
    logging.info("Starting server\n")
    logging.info(f"To see the GUI go to: http://{args.listen}:{args.port}")
    server.serve_forever()


main()
