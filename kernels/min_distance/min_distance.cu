#include <mma.h>

#include "min_distance.cuh"
#include "rlmba/cuda/device.cuh"
#include "rows_and_centers.cuh"

// The score of a center c for a row x is |c'|^2 / 2 - x' . c', with c' and x' shifted; the nearest
// center has the least score. The exact mode preselects the centers that can be nearest by products
// in the computation dtype, within a bound on their rounding error, and compares them by distances
// in double precision.

namespace rlmba::cuda {
namespace {

constexpr int kTile = 64;   // rows, and centers, of a block
constexpr int kDepth = 16;  // columns multiplied at a time
constexpr int kSide = 4;    // rows, and centers, of a thread of the exact product
constexpr int kLanes = 16;  // threads that share rows
constexpr int kThreads = 256;
constexpr int kWmmaThreads = 128;

template <class W>
struct Limits;
template <>
struct Limits<float> {
  static constexpr double kUnit = 0x1.0p-24;
  static constexpr double kTiny = 0x1.0p-126;
  static constexpr double kSafe = 0x1.0p120;
};
template <>
struct Limits<double> {
  static constexpr double kUnit = 0x1.0p-53;
  static constexpr double kTiny = 0x1.0p-1022;
  static constexpr double kSafe = 0x1.0p1000;
};

template <class T, class W>
__device__ double exact_distance(const T* x, const W* c, std::int64_t columns) {
  double sum = 0;
  for (std::int64_t p = 0; p < columns; ++p) {
    const double d = static_cast<double>(widen(x[p])) - static_cast<double>(c[p]);
    sum += d * d;
  }
  return sum;
}

template <class W>
__global__ void norms_of_centers(Centers<W> centers, W* half_norms, long long bad_center,
                                 long long* first_bad) {
  const std::int64_t j =
      blockIdx.x * static_cast<std::int64_t>(kThreads / kWarp) + threadIdx.x / kWarp;
  if (j >= centers.count) return;
  double sum = 0;
  bool finite = true;
  for (std::int64_t p = threadIdx.x % kWarp; p < centers.columns; p += kWarp) {
    const W value = centers.row(j)[p];
    finite = finite && isfinite(value);
    const double d = static_cast<double>(value - centers.shift[p]);
    sum += d * d;
  }
  sum = warp_sum(sum);
  if (!finite) report(first_bad, bad_center + j);
  if (threadIdx.x % kWarp == 0) half_norms[j] = static_cast<W>(0.5 * sum);
}

// Products of kTile rows with kTile centers: each thread has kSide x kSide of them.
template <class W>
struct Product {
  W (*rows)[kTile + 1];
  W (*centers)[kTile + 1];
  W value[kSide][kSide];

  // If kNorms, adds the squared norms of the thread's rows to `norms`.
  template <bool kNorms, class T>
  __device__ __forceinline__ void compute(const Rows<T>& x, const Centers<W>& c,
                                          std::int64_t first_row, std::int64_t first_center,
                                          W (&norms)[kSide]) {
    const int tx = threadIdx.x % kLanes, ty = threadIdx.x / kLanes;
#pragma unroll
    for (int r = 0; r < kSide; ++r) {
#pragma unroll
      for (int s = 0; s < kSide; ++s) value[r][s] = W(0);
    }
    for (std::int64_t start = 0; start < c.columns; start += kDepth) {
      load(x, c, first_row, first_center, start);
      __syncthreads();
#pragma unroll
      for (int p = 0; p < kDepth; ++p) {
        W a[kSide], b[kSide];
#pragma unroll
        for (int r = 0; r < kSide; ++r) {
          a[r] = rows[p][ty + r * kLanes];
          b[r] = centers[p][tx + r * kLanes];
          if constexpr (kNorms) norms[r] += a[r] * a[r];
        }
#pragma unroll
        for (int r = 0; r < kSide; ++r) {
#pragma unroll
          for (int s = 0; s < kSide; ++s) value[r][s] += a[r] * b[s];
        }
      }
      __syncthreads();
    }
  }

  template <class T>
  __device__ __forceinline__ void load(const Rows<T>& x, const Centers<W>& c,
                                       std::int64_t first_row, std::int64_t first_center,
                                       std::int64_t start) {
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int p = i % kDepth, at = i / kDepth;
      const std::int64_t column = start + p;
      const bool within = column < c.columns;
      const std::int64_t row = first_row + at, center = first_center + at;
      rows[p][at] = within && row < x.count
                        ? static_cast<W>(widen(x.row(row)[column])) - c.shift[column]
                        : W(0);
      centers[p][at] = within && center < c.count ? c.row(center)[column] - c.shift[column] : W(0);
    }
  }
};

// Error bound of the scores of a row. A sum over columns is rounded once per column, by a unit of
// |x'| |c'|; shifting rounds every factor once, the half norm and the difference once more. The
// last term is the rounding of the exact distances.
template <class W>
__device__ double score_error(double norm2, double largest, double columns) {
  constexpr double u = Limits<W>::kUnit;
  const double product = sqrt(2 * norm2 * largest);
  const double tiny = Limits<W>::kTiny * columns * (2 + sqrt(norm2) + sqrt(2 * largest));
  const double distance = 0x1.0p-53 * (columns + 8) * 2 * (norm2 + 2 * largest);
  return 1.01 * (u * ((columns + 8) * product + 4 * largest) + distance + tiny);
}

// Least exact distance among candidates, and the lowest center with it.
struct Nearest {
  double squared;
  std::int64_t label;

  __device__ void meet(double d, std::int64_t j) {
    if (d < squared || (d == squared && j < label)) {
      squared = d;
      label = j;
    }
  }
};

// A thread's state of its kSide rows.
template <class W>
struct Side {
  Best<W> best[kSide];
  W norms[kSide];       // squared
  double limit[kSide];  // the greatest score that a nearest center can have
  bool doubtful[kSide];
  Nearest nearest[kSide];
};

template <class T, class W>
__device__ __forceinline__ void find_least(const Rows<T>& x, const Centers<W>& centers,
                                           std::int64_t first_row, Product<W>& product,
                                           Side<W>& side) {
#pragma unroll
  for (int r = 0; r < kSide; ++r) {
    side.best[r] = {W(INFINITY), W(INFINITY), centers.count};
    side.norms[r] = W(0);
  }
  for (std::int64_t start = 0; start < centers.count; start += kTile) {
    if (start == 0) {
      product.template compute<true>(x, centers, first_row, start, side.norms);
    } else {
      product.template compute<false>(x, centers, first_row, start, side.norms);
    }
#pragma unroll
    for (int s = 0; s < kSide; ++s) {
      const std::int64_t j = start + threadIdx.x % kLanes + s * kLanes;
      if (j >= centers.count) break;
      const W half = centers.half_norms[j];
#pragma unroll
      for (int r = 0; r < kSide; ++r) side.best[r].meet(half - product.value[r][s], j);
    }
  }
#pragma unroll
  for (int r = 0; r < kSide; ++r) {
    for (int mask = kLanes / 2; mask > 0; mask /= 2) {
      const Best<W> other{from_lane(side.best[r].score, mask), from_lane(side.best[r].second, mask),
                          from_lane(side.best[r].label, mask)};
      side.best[r].merge(other);
    }
  }
}

// Whether the nearest center of any of the rows is uncertain due to rounding.
template <class W>
__device__ __forceinline__ bool find_doubts(const Centers<W>& centers, std::int64_t rows_left,
                                            Side<W>& side) {
  const double largest = static_cast<double>(*centers.largest);
  bool any = false;
#pragma unroll
  for (int r = 0; r < kSide; ++r) {
    const double norm2 = static_cast<double>(side.norms[r]);
    const double error =
        score_error<W>(1.01 * norm2, largest, static_cast<double>(centers.columns));
    constexpr double kSafe = Limits<W>::kSafe;
    const Best<W>& best = side.best[r];
    const bool trusted = norm2 < kSafe && largest < kSafe && isfinite(best.score);
    // Infinite if scores are not finite; every center is then a candidate.
    side.limit[r] = trusted ? static_cast<double>(best.score) + 2 * error : INFINITY;
    side.doubtful[r] = threadIdx.x / kLanes + r * kLanes < rows_left &&
                       !(static_cast<double>(best.second) > side.limit[r]);
    any = any || side.doubtful[r];
  }
  return any;
}

template <class T, class W>
__device__ __forceinline__ void measure_candidates(const Rows<T>& x, const Centers<W>& centers,
                                                   std::int64_t first_row, Product<W>& product,
                                                   Side<W>& side) {
  const int tx = threadIdx.x % kLanes, ty = threadIdx.x / kLanes;
#pragma unroll
  for (int r = 0; r < kSide; ++r) side.nearest[r] = {INFINITY, centers.count};
  for (std::int64_t start = 0; start < centers.count; start += kTile) {
    product.template compute<false>(x, centers, first_row, start, side.norms);
    // Bit mask of the pairs to compute, because registers cannot be indexed at run time.
    unsigned pairs = 0;
#pragma unroll
    for (int s = 0; s < kSide; ++s) {
      const std::int64_t j = start + tx + s * kLanes;
      const W half = j < centers.count ? centers.half_norms[j] : W(0);
#pragma unroll
      for (int r = 0; r < kSide; ++r) {
        const double score = static_cast<double>(half - product.value[r][s]);
        const bool may = side.doubtful[r] && j < centers.count && !(score > side.limit[r]);
        pairs |= may ? 1u << (r * kSide + s) : 0u;
      }
    }
    for (; pairs != 0; pairs &= pairs - 1) {
      const int pair = __ffs(static_cast<int>(pairs)) - 1;
      const std::int64_t row = first_row + ty + pair / kSide * kLanes;
      const std::int64_t j = start + tx + pair % kSide * kLanes;
      const double d = exact_distance(x.row(row), centers.row(j), centers.columns);
#pragma unroll
      for (int r = 0; r < kSide; ++r) {
        if (r == pair / kSide) side.nearest[r].meet(d, j);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kSide; ++r) {
    for (int mask = kLanes / 2; mask > 0; mask /= 2) {
      side.nearest[r].meet(from_lane(side.nearest[r].squared, mask),
                           from_lane(side.nearest[r].label, mask));
    }
    if (side.doubtful[r]) side.best[r].label = side.nearest[r].label;
  }
}

template <class T, class W>
__global__ void __launch_bounds__(kThreads)
    select_exactly(Rows<T> x, Centers<W> centers, std::int64_t* labels) {
  __shared__ W row_tile[kDepth][kTile + 1];
  __shared__ W center_tile[kDepth][kTile + 1];
  __shared__ int doubts;
  const std::int64_t first_row = blockIdx.x * static_cast<std::int64_t>(kTile);
  Product<W> product{row_tile, center_tile, {}};
  Side<W> side;
  if (threadIdx.x == 0) doubts = 0;
  find_least(x, centers, first_row, product, side);  // has barriers, after which doubts is 0
  if (find_doubts(centers, x.count - first_row, side)) doubts = 1;
  __syncthreads();
  if (doubts != 0) measure_candidates(x, centers, first_row, product, side);
#pragma unroll
  for (int r = 0; r < kSide; ++r) {
    const std::int64_t row = first_row + threadIdx.x / kLanes + r * kLanes;
    const std::int64_t label = side.best[r].label;
    if (threadIdx.x % kLanes == 0 && row < x.count) {
      labels[row] = label < centers.count ? label : 0;
    }
  }
}

// Operands of tensor cores, and the shape of their products.
struct Bf16 {
  using Element = __nv_bfloat16;
  using Kind = __nv_bfloat16;
  static constexpr int kStep = 16;
  static __device__ Element round(float x) { return __float2bfloat16(x); }
};
struct Tf32 {
  using Element = float;
  using Kind = nvcuda::wmma::precision::tf32;
  static constexpr int kStep = 8;
  static __device__ Element round(float x) { return nvcuda::wmma::__float_to_tf32(x); }
};

// One tensor-core product decides. Four warps, each with a quarter of the tile.
template <class O, class T, class W>
__global__ void __launch_bounds__(kWmmaThreads)
    select_by_product(Rows<T> x, Centers<W> centers, std::int64_t* labels) {
  namespace wmma = nvcuda::wmma;
  constexpr int kDeep = 2 * kDepth, kPad = 8, kPart = kTile / 2, kEdge = 16;
  using Element = typename O::Element;
  // Fragments are read and written 32 bytes at a time.
  alignas(32) __shared__ Element a[kTile][kDeep + kPad];
  alignas(32) __shared__ Element b[kTile][kDeep + kPad];
  alignas(32) __shared__ float out[kTile][kTile + kPad];
  const std::int64_t first_row = blockIdx.x * static_cast<std::int64_t>(kTile);
  const int warp = threadIdx.x / kWarp, at_row = warp / 2 * kPart, at_center = warp % 2 * kPart;
  const int own = threadIdx.x / 2, side = threadIdx.x % 2;
  Best<float> best{INFINITY, INFINITY, centers.count};
  for (std::int64_t start = 0; start < centers.count; start += kTile) {
    wmma::fragment<wmma::accumulator, kEdge, kEdge, O::kStep, float> sum[2][2];
    for (auto& row : sum) {
      for (auto& tile : row) wmma::fill_fragment(tile, 0.0f);
    }
    for (std::int64_t first = 0; first < centers.columns; first += kDeep) {
      for (int i = threadIdx.x; i < kTile * kDeep; i += kWmmaThreads) {
        const int p = i % kDeep, at = i / kDeep;
        const std::int64_t column = first + p, row = first_row + at, center = start + at;
        const bool within = column < centers.columns;
        const W shift = within ? centers.shift[column] : W(0);
        a[at][p] =
            O::round(within && row < x.count
                         ? static_cast<float>(static_cast<W>(widen(x.row(row)[column])) - shift)
                         : 0.0f);
        b[at][p] = O::round(within && center < centers.count
                                ? static_cast<float>(centers.row(center)[column] - shift)
                                : 0.0f);
      }
      __syncthreads();
      for (int p = 0; p < kDeep; p += O::kStep) {
        wmma::fragment<wmma::matrix_a, kEdge, kEdge, O::kStep, typename O::Kind, wmma::row_major> l;
        wmma::fragment<wmma::matrix_b, kEdge, kEdge, O::kStep, typename O::Kind, wmma::col_major> r;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          wmma::load_matrix_sync(l, &a[at_row + i * kEdge][p], kDeep + kPad);
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            wmma::load_matrix_sync(r, &b[at_center + j * kEdge][p], kDeep + kPad);
            wmma::mma_sync(sum[i][j], l, r, sum[i][j]);
          }
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        wmma::store_matrix_sync(&out[at_row + i * kEdge][at_center + j * kEdge], sum[i][j],
                                kTile + kPad, wmma::mem_row_major);
      }
    }
    __syncthreads();
    for (int c = side; c < kTile && start + c < centers.count; c += 2) {
      best.meet(static_cast<float>(centers.half_norms[start + c]) - out[own][c], start + c);
    }
  }
  best.meet(from_lane(best.score, 1), from_lane(best.label, 1));
  const std::int64_t row = first_row + own;
  if (side == 0 && row < x.count) labels[row] = best.label < centers.count ? best.label : 0;
}

template <class T, class W>
__global__ void measure(Rows<T> x, Centers<W> centers, const std::int64_t* labels, double* squared,
                        long long first_row, long long* first_bad) {
  const std::int64_t row =
      blockIdx.x * static_cast<std::int64_t>(kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= x.count) return;
  const T* values = x.row(row);
  const W* center = centers.row(labels[row]);
  double sum = 0;
  bool finite = true;
  for (std::int64_t p = threadIdx.x % kWarp; p < x.columns; p += kWarp) {
    const Wide<T> value = widen(values[p]);
    finite = finite && isfinite(value);
    const double d = static_cast<double>(value) - static_cast<double>(center[p]);
    sum += d * d;
  }
  sum = warp_sum(sum);
  if (!finite) report(first_bad, first_row + row);
  if (threadIdx.x % kWarp == 0) squared[row] = sum;
}

template <class W>
Centers<W> view(const PreparedCenters& c) {
  return {c.values.as<const W>(),
          c.values.rows,
          c.values.columns,
          reinterpret_cast<const W*>(c.shift),
          reinterpret_cast<const W*>(c.half_norms),
          reinterpret_cast<const W*>(c.largest)};
}

template <class T>
void launch_passes(const Matrix& x, const PreparedCenters& prepared, Precision precision,
                   std::uintptr_t squared, std::uintptr_t labels, std::int64_t first_row,
                   std::uintptr_t first_bad, Stream stream) {
  using W = Wide<T>;
  const Rows<T> rows{x.as<const T>(), x.rows, x.columns, x.stride};
  const Centers<W> centers = view<W>(prepared);
  auto* out = reinterpret_cast<std::int64_t*>(labels);
  const dim3 grid(ceil_div(x.rows, kTile));
  switch (precision) {
    case Precision::kExact:
      launch(&select_exactly<T, W>, grid, dim3(kThreads), stream, rows, centers, out);
      break;
    case Precision::kTf32:
      launch(&select_by_product<Tf32, T, W>, grid, dim3(kWmmaThreads), stream, rows, centers, out);
      break;
    case Precision::kBf16:
      launch(&select_by_product<Bf16, T, W>, grid, dim3(kWmmaThreads), stream, rows, centers, out);
      break;
  }
  launch(&measure<T, W>, dim3(ceil_div(x.rows, kThreads / kWarp)), dim3(kThreads), stream, rows,
         centers, out, reinterpret_cast<double*>(squared), first_row,
         reinterpret_cast<long long*>(first_bad));
}

}  // namespace

void center_norms(const PreparedCenters& centers, std::int64_t bad_center, std::uintptr_t first_bad,
                  Stream stream) {
  const dim3 grid(ceil_div(centers.values.rows, kThreads / kWarp));
  auto* bad = reinterpret_cast<long long*>(first_bad);
  if (centers.values.dtype == DType::kFloat64) {
    launch(&norms_of_centers<double>, grid, dim3(kThreads), stream, view<double>(centers),
           reinterpret_cast<double*>(centers.half_norms), bad_center, bad);
  } else {
    launch(&norms_of_centers<float>, grid, dim3(kThreads), stream, view<float>(centers),
           reinterpret_cast<float*>(centers.half_norms), bad_center, bad);
  }
}

void min_distance(const Matrix& x, const PreparedCenters& centers, Precision precision,
                  std::uintptr_t squared, std::uintptr_t labels, std::int64_t first_row,
                  std::uintptr_t first_bad, Stream stream) {
  if (x.rows == 0) return;
  with_type(x.dtype, [&](auto element) {
    launch_passes<decltype(element)>(x, centers, precision, squared, labels, first_row, first_bad,
                                     stream);
  });
}

}  // namespace rlmba::cuda
