#pragma once

// Launching of kernels. tests/cuda_emulator has a header of the same name that runs them on the
// CPU.

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "rlmba/cuda/matrix.hpp"

namespace rlmba::cuda {

inline void check(cudaError_t status) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
  }
}

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, Stream stream,
            Arguments... arguments) {
  kernel<<<grid, block, 0, reinterpret_cast<cudaStream_t>(stream)>>>(Parameters(arguments)...);
  check(cudaGetLastError());
}

}  // namespace rlmba::cuda
