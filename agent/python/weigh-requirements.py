"""Weighs requirements against installed dists, with the rules of PEP 440 and PEP 508. Loaded by environment.py."""
import functools
import glob
import importlib.util
import os
import sys
import sysconfig


def weigh(dists, request):
    """What of the request's requirements is there, which exclude each other, and what the dists require themselves."""
    packaging = load_packaging()
    if packaging is None:
        return {'error': 'neither pip nor packaging nor ensurepip is there to read requirements with'}
    weigher = Weigher(packaging, dists, request)
    weighed = [weigher.weigh(text) for text in request['requirements']]
    return {
        'aliases': {name: dist.version for name, dist in opencv_aliases(dists).items()},
        'weighed': weighed,
        'conflicts': weigher.conflicts(weighed, request['requirements']),
        'pins': {name: pins for name, pins in ((n, weigher.exact_pins(d)) for n, d in dists.items()) if pins},
        'unmet': {name: lines for name, lines in ((n, weigher.unmet(d)) for n, d in dists.items()) if lines},
    }


def load_packaging():
    """pip's own copy of packaging is exactly what pip will use; the others serve a Python without pip."""
    try:
        from pip._vendor import packaging
        import pip._vendor.packaging.requirements
        return packaging
    except ImportError:
        pass
    try:
        import packaging
        import packaging.requirements
        return packaging
    except ImportError:
        pass
    found = importlib.util.find_spec('ensurepip')
    folders = [sysconfig.get_config_var('WHEEL_PKG_DIR')]
    if found and found.origin:
        folders.insert(0, os.path.join(os.path.dirname(found.origin), '_bundled'))
    for folder in filter(None, folders):
        for wheel in glob.glob(os.path.join(folder, 'pip-*.whl')):
            sys.path.append(wheel)
            from pip._vendor import packaging
            import pip._vendor.packaging.requirements
            return packaging
    return None


# Four builds of one thing: they share their files, so that a second one overwrites the first.
OPENCV = ['opencv-contrib-python-headless', 'opencv-contrib-python', 'opencv-python-headless', 'opencv-python']


def opencv_aliases(dists):
    """The builds of OpenCV that are not there count as installed when another one is."""
    there = [name for name in OPENCV if name in dists]
    return {name: dists[there[0]] for name in OPENCV if there and name not in dists}


class Weigher:
    """Which requirements the installed dists satisfy, with the rules of PEP 440 and PEP 508."""

    def __init__(self, packaging, dists, request):
        self.Requirement = packaging.requirements.Requirement
        self.Version = packaging.version.Version
        self.InvalidVersion = packaging.version.InvalidVersion
        self.canonical = packaging.utils.canonicalize_name
        self.dists = {**dists, **opencv_aliases(dists)}
        self.overlay = request.get('overlay')
        self.pretend = request.get('pretend') or {}
        # The parser of older pips takes a millisecond a line, and an image has some thousand lines.
        self.parse = functools.cache(self.read)

    def read(self, text):
        requirement = self.Requirement(text)
        for specifier in requirement.specifier:
            # Old copies of packaging read "<1.24>=1.18" as one comparison of letters.
            if type(specifier).__name__ == 'LegacySpecifier':
                raise ValueError('invalid specifier ' + str(specifier))
        return requirement

    def applies(self, requirement, extras=()):
        marker = requirement.marker
        return marker is None or any(marker.evaluate({'extra': extra}) for extra in ('', *extras))

    def version_of(self, name):
        dist = self.dists.get(name)
        return self.pretend.get(name, dist.version if dist else None)

    def satisfied(self, requirement):
        version = self.version_of(self.canonical(requirement.name))
        return version is not None and self.accepts(requirement.specifier, version)

    def accepts(self, specifier, version):
        try:
            return specifier.contains(version, prereleases=True)
        except self.InvalidVersion:
            return False

    def missing(self, requirement, seen):
        """What is not there for a requirement; the dists of the base are taken as they are."""
        if not self.satisfied(requirement):
            return [str(requirement)]
        name = self.canonical(requirement.name)
        dist = self.dists.get(name)
        if dist is None:
            return []
        key = (name, tuple(sorted(requirement.extras)))
        deep = self.overlay and str(dist.locate_file('')).startswith(self.overlay)
        if key in seen or not (deep or requirement.extras):
            return []
        seen.add(key)
        found = []
        for text in dist.requires or []:
            try:
                child = self.parse(text)
            except Exception:  # somebody's broken metadata; no version of anything would satisfy the line
                continue
            plain = self.applies(child)
            if (plain and deep) or (not plain and self.applies(child, requirement.extras)):
                found += self.missing(child, seen)
        return found

    def weigh(self, text):
        try:
            requirement = self.parse(text)
        except Exception as error:  # every version of packaging raises other classes
            return {'error': str(error).split('\n')[0].rstrip(': ')}
        name = self.canonical(requirement.name)
        extras = ','.join(sorted(requirement.extras))
        return {
            'name': name,
            'specifier': str(requirement.specifier),
            'text': requirement.name + ('[' + extras + ']' if extras else '') + str(requirement.specifier),
            'url': requirement.url,
            'applies': self.applies(requirement),
            'installed': self.version_of(name),
            'satisfied': self.satisfied(requirement),
            'missing': self.missing(requirement, set()),
        }

    def exact_pins(self, dist):
        """Names that a dist requires in exactly one version."""
        names = set()
        for text in dist.requires or []:
            try:
                requirement = self.parse(text)
            except Exception:
                continue
            exact = any(s.operator in ('==', '===') and not s.version.endswith('.*') for s in requirement.specifier)
            if exact and self.applies(requirement):
                names.add(self.canonical(requirement.name))
        return sorted(names)

    def unmet(self, dist):
        """Lines of a dist's own requirements that nothing installed satisfies."""
        lines = []
        for text in dist.requires or []:
            try:
                requirement = self.parse(text)
                if self.applies(requirement) and not self.satisfied(requirement):
                    lines.append(text)
            except Exception:
                lines.append(text)
        return lines

    def conflicts(self, weighed, texts):
        """Groups of requirements on one name that no version can satisfy together."""
        groups = {}
        for index, one in enumerate(weighed):
            if one.get('applies') and one.get('specifier') and not one.get('url'):
                groups.setdefault(one['name'], []).append(index)
        return [
            indexes
            for indexes in groups.values()
            if len(indexes) > 1 and not self.possible([self.parse(texts[i]).specifier for i in indexes])
        ]

    def possible(self, sets):
        """True when some version satisfies all: every bound, and points just above and below it, are tried."""
        candidates = {'0', '99999'}
        for specifier in (s for one in sets for s in one):
            text = specifier.version[:-2] if specifier.version.endswith('.*') else specifier.version
            candidates.add(text)
            try:
                version = self.Version(text)
            except self.InvalidVersion:
                continue
            release = version.release
            base = '.'.join(map(str, release))
            candidates |= {base, base + '.dev0', base + '.post1', base + '.0.1'}
            for place in range(len(release)):
                for step in (1, -1):
                    if release[place] + step >= 0:
                        parts = [*release[:place], release[place] + step]
                        candidates.add('.'.join(map(str, parts)))
                        if step == -1:
                            candidates.add('.'.join(map(str, [*parts, 99999])))
            if version.pre:
                candidates.add(base + version.pre[0] + str(version.pre[1] + 1))
        return any(all(self.accepts(one, version) for one in sets) for version in candidates)
