#!/usr/bin/env python3
"""Prints the licences of everything that is compiled into the binary: dist/notices.py TARGET"""

import json
import pathlib
import subprocess
import sys

NAMES = ("license", "licence", "copying", "notice", "copyright", "unlicense")


def packages(target):
    """The crates that `orama` is linked with, sorted by name."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    by_id = {package["id"]: package for package in found["packages"]}
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    (first,) = [id for id in found["workspace_members"] if by_id[id]["name"] == "orama"]
    seen, left = {first}, [first]
    while left:
        for dependency in nodes[left.pop()]["deps"]:
            is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_linked and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                left.append(dependency["pkg"])
    linked = (by_id[id] for id in seen if id not in found["workspace_members"])
    return sorted(linked, key=lambda package: (package["name"], package["version"]))


def texts(package):
    """The files of a crate that are about its licence."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [path for path in folder.iterdir() if path.is_file() and path.name.lower().startswith(NAMES)]
    if package["license_file"] and not files:
        files = [folder / package["license_file"]]
    return [path.read_text(errors="replace").strip() for path in sorted(files)]


def main():
    linked = packages(sys.argv[1])
    print("Orama Functions is distributed with the crates below.\n")
    shown = {}
    for package in linked:
        print(f"{package['name']} {package['version']}: {package['license']}")
        for text in texts(package):
            shown.setdefault(text, []).append(f"{package['name']} {package['version']}")
    for text, names in shown.items():
        print(f"\n{'=' * 80}\n{', '.join(names)}\n{'=' * 80}\n{text}")


main()
