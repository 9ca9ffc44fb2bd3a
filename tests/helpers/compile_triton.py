"""Compile every Triton kernel for GPUs that need not be present; run with ``python -m``.

Nothing is executed: launches are caught and their kernels are compiled to machine code with the types and
constants of the launch, each for sm_90, and the first launch of each kernel for sm_80 too. One line is
printed for each kernel. Triton keeps what it compiles in its own cache, by the hash of the kernel and of
all it calls, of Triton, of the options and of the architecture: only changed kernels are compiled again.

Usage: ``python -m tests.helpers.compile_triton OPERATION...``, for modules of ``tests.helpers.calls``.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback

os.environ.pop("TRITON_INTERPRET", None)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime import driver
from triton.runtime.jit import JITFunction, create_function_from_signature

from rlmba.kernels import dispatch

TARGETS = [GPUTarget("cuda", capability, 32) for capability in (80, 90)]


class Driver:
    """Just enough of a driver for launches to be prepared."""

    def get_current_target(self):
        return TARGETS[-1]

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


compiled = set()


def compile_launch(self, *args, grid, warmup, **kwargs):
    kwargs["debug"] = False
    kwargs["instrumentation_mode"] = ""
    for target in TARGETS:
        backend = make_backend(target)
        binder = create_function_from_signature(self.signature, self.params, backend)
        bound, specialization, options = binder(*args, **kwargs)
        options, signature, constants, attributes = self._pack_args(
            backend, dict(kwargs), bound, specialization, options
        )
        key = (self.__module__, self.__name__, target.arch, str(signature), str(constants))
        once = (*key[:3], "") if target.arch < TARGETS[-1].arch else key
        if once in compiled:
            continue
        compiled.add(once)
        source = ASTSource(self, signature, constants, attributes)
        kernel = triton.compile(source, target=target, options=options.__dict__)
        assert "cubin" in kernel.asm
        sys.stdout.write(f"{key[0]}.{key[1]} sm_{target.arch} {signature}\n")
        sys.stdout.flush()


def compile_calls(operation):
    """Compile in a child process, since modules replace functions; whether all went well."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    try:
        importlib.import_module(f"tests.helpers.calls.{operation}").calls("triton")
    except BaseException:
        sys.stderr.write(f"{operation}:\n{traceback.format_exc()}")
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    driver.set_active(Driver())
    JITFunction.run = compile_launch
    dispatch.interpreted = lambda: True  # arrays in CPU memory are let through
    failed = [operation for operation in sys.argv[1:] if not compile_calls(operation)]
    sys.exit(f"not compiled: {', '.join(failed)}" if failed else 0)
