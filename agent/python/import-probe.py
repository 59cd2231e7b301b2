"""Imports modules one after the other and writes what happened to a file, one JSON object a line.

    python -I import-probe.py OUTPUT MODULE...

A line {"begin": module} comes before each import, so that a module that kills or hangs the process is known by name.
"""
import importlib
import json
import sys


def outcome(name):
    try:
        module = importlib.import_module(name)
    except BaseException as error:  # a module may raise SystemExit or worse
        return {'module': name, 'error': '{}: {}'.format(type(error).__name__, error)[:2000]}
    spec = getattr(module, '__spec__', None)
    # After a half removal only the empty folder is left, and importing a folder succeeds.
    ghost = getattr(module, '__file__', None) is None and getattr(spec, 'origin', None) is None
    return {'module': name, 'ghost': ghost, 'path': list(getattr(module, '__path__', []))}


with open(sys.argv[1], 'w', encoding='utf-8') as output:
    for name in sys.argv[2:]:
        print(json.dumps({'begin': name}), file=output, flush=True)
        print(json.dumps(outcome(name)), file=output, flush=True)
