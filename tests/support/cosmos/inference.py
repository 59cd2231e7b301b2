"""A stand-in for Cosmos inference: one video for each prompt of -i (a JSON list), into -o. VERSION is 2.5 or 3.

2.5 turns guardrails off with --disable-guardrails and keeps going after a blocked prompt: fewer videos, exit status 0.
3 turns them off with --no-guardrails and ends at a blocked prompt. With guardrails on, the model behind them is gated.
"""
import argparse
import json
import os
import sys

VERSION = "2.5"

parser = argparse.ArgumentParser()
parser.add_argument("-i", required=True)
parser.add_argument("-o", required=True)
if VERSION == "2.5":
    parser.add_argument("--disable-guardrails", action="store_true")
    parser.add_argument("--keep-going", action=argparse.BooleanOptionalAction, default=True)
else:
    parser.add_argument("--guardrails", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--keep-going", action=argparse.BooleanOptionalAction, default=False)
args = parser.parse_args()
guarded = not args.disable_guardrails if VERSION == "2.5" else args.guardrails
if guarded:
    sys.exit("huggingface_hub.errors.GatedRepoError: 403 Client Error. nvidia/Cosmos-Guardrail1 is gated")

with open(args.i, encoding="utf-8") as file:
    prompts = json.load(file)
os.makedirs(args.o, exist_ok=True)
for number, prompt in enumerate(prompts):
    if prompt == "impossible":
        print("CRITICAL generation failed", flush=True)
        if not args.keep_going:
            sys.exit(1)
        continue
    with open(os.path.join(args.o, f"{number}.mp4"), "w", encoding="utf-8") as video:
        video.write(prompt)
    print("made", prompt, flush=True)
