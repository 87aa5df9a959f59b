"""`mdm-kit verify`: is a merged folder what its manifest says?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from mdm_kit.cli import options


@click.command("verify")
@click.argument("source", type=click.Path(path_type=Path))
@options.as_json
def command(source: Path, as_json: bool) -> int:
    """Read the merged folder SOURCE once and compare every byte with its manifest.

    Ends with 0 when every digest fits and with 4, naming each fault, when one does not.
    """
    from mdm_kit.bundle.verify import read_manifest, verify_folder
    from mdm_kit.cli.screen import ByteProgress, console, facts
    from mdm_kit.words import human_bytes

    manifest = read_manifest(source)
    total = sum(e.nbytes for e in (*manifest.files.values(), *manifest.shards.values()))
    with ByteProgress("verifying") as progress:
        progress.start(total, 0)
        found = verify_folder(source, progress.advance)
    if as_json:
        document = {
            "sound": found.sound,
            "faults": list(found.faults),
            "n_tensors": found.n_tensors,
            "n_files": found.n_files,
            "nbytes": found.nbytes,
            "plan": found.manifest.plan,
        }
        click.echo(json.dumps(document))
    elif found.sound:
        facts(
            [
                ("sound", f"{found.n_files} files, {found.n_tensors:,} tensors, "
                          f"{human_bytes(found.nbytes)}: every digest fits"),
                ("method", found.manifest.method),
                ("plan", found.manifest.plan),
            ]
        )  # fmt: skip
    for fault in found.faults:
        console(stderr=True).print(f"fault: {fault}", soft_wrap=True)
    if not found.sound:
        console(stderr=True).print(
            f"error: {len(found.faults)} fault(s): this is not the folder the manifest describes; "
            "get the original again or merge anew",
            soft_wrap=True,
        )
    return 0 if found.sound else 4
