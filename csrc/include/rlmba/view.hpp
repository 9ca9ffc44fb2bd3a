#pragma once

#include <cstdint>

// Borrowed memory with its shape. Members are always inlined, because these types are shared by
// translation units compiled for different instruction sets, which must not use each other's
// out-of-line copies.
#define RLMBA_INLINE inline __attribute__((always_inline))

namespace rlmba {

template <class T>
struct VectorView {
  T* data;
  std::int64_t size;
};

// Row-major matrix whose rows are contiguous; `stride` is the distance between rows, in elements.
template <class T>
struct MatrixView {
  T* data;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t stride;

  RLMBA_INLINE T* row(std::int64_t i) const { return data + i * stride; }
};

}  // namespace rlmba
