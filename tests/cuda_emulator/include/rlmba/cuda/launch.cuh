#pragma once

// In the place of csrc/include/rlmba/cuda/launch.cuh: launches run at once, on the CPU.

#include <cuda_runtime.h>

#include "rlmba/cuda/matrix.hpp"

namespace rlmba::cuda {

inline void check(cudaError_t) {}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, Stream, Arguments... arguments) {
  emulator::run(grid, block, [=] { kernel(Parameters(arguments)...); });
}

}  // namespace rlmba::cuda
