#pragma once

#include <cstdint>

namespace rlmba::cuda {

// The numbers must match kernels/common/device.py.
enum class DType : int { kFloat16 = 0, kBFloat16 = 1, kFloat32 = 2, kFloat64 = 3 };

// Rows of real numbers in device memory. Row i begins at data + i * stride elements.
struct Matrix {
  std::uintptr_t data = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;
  DType dtype = DType::kFloat32;

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
};

// The caller's cudaStream_t as a number, so that bindings need no CUDA header.
using Stream = std::uintptr_t;

}  // namespace rlmba::cuda
