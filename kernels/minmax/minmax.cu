#include <algorithm>

#include "minmax.cuh"
#include "rlmba/cuda/device.cuh"

namespace rlmba::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;
constexpr int kSharedColumns = 256;
constexpr long long kAllValid = 0x7FFFFFFFFFFFFFFFll;

template <class W>
using Key = decltype(ordered_key(W{}));

struct Mask {
  const unsigned char* flags;
  MaskKind kind;

  __device__ bool keeps(std::int64_t entry, std::int64_t row) const {
    if (kind == MaskKind::kNone) return true;
    return flags[kind == MaskKind::kRow ? row : entry] != 0;
  }
};

template <class K>
__global__ void clear_keys(K* keys, std::int64_t columns) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (i < columns) {
    keys[i] = ~K{0};
    keys[columns + i] = 0;
  }
}

// Every thread stays in one column: its steps are a multiple of the number of columns.
template <class T>
__global__ void extremes(const T* x, std::int64_t rows, std::int64_t columns, std::int64_t stride,
                         std::int64_t step, Mask mask, Key<Wide<T>>* keys, long long* first_bad) {
  using K = Key<Wide<T>>;
  __shared__ K low[kSharedColumns];
  __shared__ K high[kSharedColumns];
  const bool shared = columns <= kSharedColumns;
  if (shared) {
    for (int c = threadIdx.x; c < columns; c += kThreads) {
      low[c] = ~K{0};
      high[c] = 0;
    }
    __syncthreads();
  }
  const std::int64_t first = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (first < step) {
    const std::int64_t column = first % columns;
    const std::int64_t rows_apart = step / columns;
    K least = ~K{0};
    K most = 0;
#pragma unroll kUnroll
    for (std::int64_t row = first / columns; row < rows; row += rows_apart) {
      if (!mask.keeps(row * columns + column, row)) continue;
      const Wide<T> value = widen(x[row * stride + column]);
      if (!isfinite(value)) {
        report(first_bad, row);
        continue;
      }
      const K key = ordered_key(value);
      least = key < least ? key : least;
      most = key > most ? key : most;
    }
    atomicMin(shared ? &low[column] : &keys[column], least);
    atomicMax(shared ? &high[column] : &keys[columns + column], most);
  }
  if (!shared) return;
  __syncthreads();
  for (int c = threadIdx.x; c < columns; c += kThreads) {
    atomicMin(&keys[c], low[c]);
    atomicMax(&keys[columns + c], high[c]);
  }
}

template <class T>
__global__ void map_columns(const T* x, std::int64_t rows, std::int64_t columns,
                            std::int64_t stride, std::int64_t step, Mask mask,
                            const Key<Wide<T>>* keys, const long long* first_bad, Wide<T>* out) {
  using W = Wide<T>;
  const std::int64_t first = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (first >= step || *first_bad != kAllValid) return;
  const std::int64_t column = first % columns;
  const std::int64_t rows_apart = step / columns;
  W low = from_ordered_key(keys[column]);
  W high = from_ordered_key(keys[columns + column]);
  const bool constant = keys[column] >= keys[columns + column] || !(low < high);
  // Halved if the range of the column overflows.
  const W factor = isfinite(high - low) ? W(1) : W(0.5);
  low *= factor;
  high *= factor;
#pragma unroll kUnroll
  for (std::int64_t row = first / columns; row < rows; row += rows_apart) {
    const std::int64_t entry = row * columns + column;
    const bool zero = constant || !mask.keeps(entry, row);
    out[entry] = zero ? W(0) : (widen(x[row * stride + column]) * factor - low) / (high - low);
  }
}

}  // namespace

void minmax(const Matrix& x, std::uintptr_t mask, MaskKind mask_kind, const Matrix& out,
            std::uintptr_t keys, std::uintptr_t first_bad, Stream stream) {
  if (x.rows == 0 || x.columns == 0) return;
  const Mask kept{reinterpret_cast<const unsigned char*>(mask), mask_kind};
  auto* bad = reinterpret_cast<long long*>(first_bad);
  // Enough threads for the whole device, and a multiple of the number of columns.
  const std::int64_t wanted = std::max<std::int64_t>(
      std::min<std::int64_t>(x.rows * x.columns, multiprocessors() * 8 * kThreads), x.columns);
  const std::int64_t step = wanted / x.columns * x.columns;
  const dim3 grid(ceil_div(step, kThreads));
  with_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    using K = Key<Wide<T>>;
    auto* k = reinterpret_cast<K*>(keys);
    launch(&clear_keys<K>, dim3(ceil_div(x.columns, kThreads)), dim3(kThreads), stream, k,
           x.columns);
    launch(&extremes<T>, grid, dim3(kThreads), stream, x.as<const T>(), x.rows, x.columns, x.stride,
           step, kept, k, bad);
    launch(&map_columns<T>, grid, dim3(kThreads), stream, x.as<const T>(), x.rows, x.columns,
           x.stride, step, kept, k, bad, out.as<Wide<T>>());
  });
}

}  // namespace rlmba::cuda
