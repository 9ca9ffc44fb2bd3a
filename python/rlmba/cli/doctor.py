"""``rlmba doctor``."""

from __future__ import annotations

import typer

from rlmba.cli.app import app


@app.command()
def doctor() -> None:
    """Show versions, compiled backends and devices, and how to get what is missing.

    The exit code is 1 if something needed does not work.
    """
    from rlmba import environment, packaged_weights

    found = environment.inspect()
    typer.echo(f"rlmba {found.rlmba}, Python {found.python}, {found.platform}, {found.cores} cores")
    typer.echo("\nPackages")
    for package in found.packages:
        mark = "ok" if package.problem is None else "!!" if package.needed else "--"
        typer.echo(f"  {mark}  {package.name:<14} {package.problem or package.version}")
    typer.echo("\nCompiled kernels")
    for module in found.compiled:
        typer.echo(f"  {'ok' if module.available else '--'}  {module.name:<14} {module.detail}")
    typer.echo("\nBackends of the kernels")
    for backend in found.backends:
        typer.echo(f"  {'ok' if backend.available else '--'}  {backend.name:<14} {backend.detail}")
    typer.echo(f"\nGPUs as torch sees them (torch built for CUDA {found.torch_cuda or 'none'})")
    for device in found.devices:
        typer.echo(f"  ok  {device.name}, {device.memory_bytes / 2**30:.1f} GiB")
    if not found.devices:
        typer.echo("  --  none")
    typer.echo("\nPretrained encoders whose weights a package contains")
    for line in packaged_weights.listing():
        typer.echo(line)
    problems = found.problems()
    if problems:
        typer.echo("\nMissing")
    for problem in problems:
        typer.echo(f"  {'!!' if problem.needed else '--'}  {problem.what}\n      {problem.remedy}")
    broken = sum(problem.needed for problem in problems)
    if broken:
        typer.echo(f"\n{broken} needed {'part does' if broken == 1 else 'parts do'} not work.")
        raise typer.Exit(1)
    typer.echo("\nEverything needed works.")
