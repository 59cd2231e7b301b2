"""Describes the Python that runs it and weighs requirements in it: JSON in, one JSON object out.

    python -I -B -X utf8 environment.py weigh-requirements.py < request > answer

It only looks: nothing is imported but the standard library and the parser of requirements that comes with pip.
The request is {"requirements": [text, ...], "overlay": folder or null, "pretend": {name: version}}; without
requirements it only describes. `pretend` weighs as if those versions were installed.
"""
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import site
import sys
import sysconfig


def canonical(name):
    return re.sub(r'[-_.]+', '-', name).lower()


def has(module):
    return importlib.util.find_spec(module) is not None


def read_dists():
    """The first dist of a name on sys.path wins, as it does in pip; and the folders whose metadata is no text."""
    dists = {}
    unreadable = []
    for dist in importlib.metadata.distributions():
        try:
            name = dist.metadata['Name'] if dist.metadata else None
            if name and dist.version and canonical(name) not in dists:
                dists[canonical(name)] = dist
        except Exception:  # one broken package must not hide all the others
            unreadable.append(str(getattr(dist, '_path', dist)))
    return dists, unreadable


def describe_dist(dist):
    folder = getattr(dist, '_path', None)
    return {
        'name': dist.metadata['Name'],
        'version': dist.version,
        'location': str(dist.locate_file('')),
        'metadata': str(folder) if folder else None,
        'requires': dist.requires or [],
    }


def pip_version():
    try:
        return importlib.metadata.version('pip')
    except importlib.metadata.PackageNotFoundError:
        return None


def load(path):
    """A script that lies beside this one. Python is started with -I, so that no folder of ours is on its path."""
    spec = importlib.util.spec_from_file_location('weigh_requirements', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    if sys.version_info < (3, 9):
        return {'version': platform.python_version(), 'tooOld': True}
    request = json.load(sys.stdin)
    dists, unreadable = read_dists()
    answer = {
        'interpreter': sys.executable,
        'version': platform.python_version(),
        'prefix': sys.prefix,
        'basePrefix': sys.base_prefix,
        'purelib': sysconfig.get_path('purelib'),
        'sites': [folder for folder in site.getsitepackages() if os.path.isdir(folder)],
        'hasVenv': has('venv'),
        'hasPip': has('pip'),
        'hasEnsurepip': has('ensurepip'),
        'pipVersion': pip_version(),
        'dists': [describe_dist(dist) for dist in dists.values()],
        'unreadable': unreadable,
        'suffixes': importlib.machinery.EXTENSION_SUFFIXES,
        'markers': {
            'implementation_name': sys.implementation.name,
            'platform_machine': platform.machine(),
            'platform_system': platform.system(),
            'python_full_version': platform.python_version(),
            'python_version': '.'.join(platform.python_version_tuple()[:2]),
            'sys_platform': sys.platform,
        },
    }
    if 'requirements' not in request:
        return answer
    return {**answer, **load(sys.argv[1]).weigh(dists, request)}


json.dump(main(), sys.stdout)
