#include <algorithm>
#include <cstring>

#include "../dirichlet_variance/dirichlet_variance.cuh"
#include "fused_score.cuh"
#include "rlmba/cuda/device.cuh"

// Both kernels are memory-bound, so threads issue several 16-byte reads before they use the first.
namespace rlmba::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 4;  // rows that a thread scores at a time

template <class W>
using Key = decltype(ordered_key(W{}));

// Numbers in 16 bytes.
template <class W>
struct Vector {
  static constexpr int kSize = 16 / sizeof(W);
  W v[kSize];
};

template <class W>
__device__ __forceinline__ Vector<W> load_vector(const W* at) {
  const uint4 words = __ldg(reinterpret_cast<const uint4*>(at));
  Vector<W> out;
  std::memcpy(&out, &words, sizeof(out));
  return out;
}

// N numbers from `at` on, aligned to 16 bytes.
template <int N, class W>
__device__ __forceinline__ void load_numbers(const W* at, W (&out)[N]) {
  constexpr int V = Vector<W>::kSize;
#pragma unroll
  for (int i = 0; i < N / V; ++i) {
    const Vector<W> part = load_vector(at + i * V);
#pragma unroll
    for (int q = 0; q < V; ++q) out[i * V + q] = part.v[q];
  }
}

template <int N, class W>
__device__ __forceinline__ void store_numbers(W* at, const W (&in)[N]) {
  constexpr int V = Vector<W>::kSize;
#pragma unroll
  for (int i = 0; i < N / V; ++i) {
    uint4 words;
    std::memcpy(&words, &in[i * V], sizeof(words));
    __stcs(reinterpret_cast<uint4*>(at) + i, words);
  }
}

template <class W>
struct Extremes {
  Key<W> low = ~Key<W>{0};
  Key<W> high = 0;

  __device__ __forceinline__ void add(W value, std::int64_t row, long long* first_bad) {
    if (!isfinite(value)) {
      report(first_bad, row);
      return;
    }
    const Key<W> key = ordered_key(value);
    low = key < low ? key : low;
    high = key > high ? key : high;
  }
};

// Vectors of entries. Those of a thread are `step` apart, a multiple of the number of columns, so
// that each of its numbers stays in one column. V = 1 if x is not aligned to 16 bytes.
template <class W, int V>
__global__ void __launch_bounds__(kThreads)
    extremes(const W* x, std::int64_t entries, int columns, std::int64_t step,
             const unsigned char* mask, Key<W>* keys, long long* first_bad) {
  constexpr int kAhead = 4;
  __shared__ Key<W> low[kMaxModalities];
  __shared__ Key<W> high[kMaxModalities];
  for (int c = threadIdx.x; c < columns; c += kThreads) {
    low[c] = ~Key<W>{0};
    high[c] = 0;
  }
  __syncthreads();
  const std::int64_t first = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  const std::int64_t vectors = entries / V;
  Extremes<W> seen[V];
  const auto add = [&](Extremes<W>& into, std::int64_t entry, W value) {
    if (mask == nullptr || mask[entry] != 0) into.add(value, entry / columns, first_bad);
  };
  if (first < step) {
    std::int64_t i = first;
    for (; i + (kAhead - 1) * step < vectors; i += kAhead * step) {
      W value[kAhead][V];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if constexpr (V == 1) {
          value[k][0] = x[i + k * step];
        } else {
          load_numbers(x + (i + k * step) * V, value[k]);
        }
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
#pragma unroll
        for (int q = 0; q < V; ++q) add(seen[q], (i + k * step) * V + q, value[k][q]);
      }
    }
    for (; i < vectors; i += step) {
#pragma unroll
      for (int q = 0; q < V; ++q) add(seen[q], i * V + q, x[i * V + q]);
    }
#pragma unroll
    for (int q = 0; q < V; ++q) {
      const int column = static_cast<int>((first * V + q) % columns);
      atomicMin(&low[column], seen[q].low);
      atomicMax(&high[column], seen[q].high);
    }
  }
  if (first < entries % V) {
    const std::int64_t entry = vectors * V + first;
    Extremes<W> last;
    add(last, entry, x[entry]);
    atomicMin(&low[entry % columns], last.low);
    atomicMax(&high[entry % columns], last.high);
  }
  __syncthreads();
  for (int c = threadIdx.x; c < columns; c += kThreads) {
    atomicMin(&keys[c], low[c]);
    atomicMax(&keys[columns + c], high[c]);
  }
}

template <class W>
void launch_extremes(const Matrix& x, const unsigned char* mask, Key<W>* keys, long long* bad,
                     Stream stream) {
  constexpr int V = Vector<W>::kSize;
  const std::int64_t entries = x.rows * x.columns;
  const bool aligned = x.data % 16 == 0;
  const std::int64_t vectors = aligned ? entries / V : entries;
  // At least V threads, of which the first process the remainder.
  const std::int64_t wanted = std::max<std::int64_t>(
      std::min<std::int64_t>(vectors, multiprocessors() * 8 * kThreads), x.columns * V);
  const std::int64_t step = wanted / x.columns * x.columns;
  launch(aligned ? &extremes<W, V> : &extremes<W, 1>, dim3(ceil_div(step, kThreads)),
         dim3(kThreads), stream, x.as<const W>(), entries, static_cast<int>(x.columns), step, mask,
         keys, bad);
}

// (x - low) / (high - low); 0 for a constant column. Halved if the range overflows.
template <class W>
struct Rescale {
  W factor = 1;
  W low = 0;
  W width = 1;
  bool constant = true;

  __device__ __forceinline__ void read(const Key<W>* keys, int columns, int column) {
    if (keys[column] >= keys[columns + column]) return;
    low = from_ordered_key(keys[column]);
    const W high = from_ordered_key(keys[columns + column]);
    constant = !(low < high);
    factor = isfinite(high - low) ? W(1) : W(0.5);
    low *= factor;
    width = high * factor - low;
  }
  __device__ __forceinline__ W operator()(W x) const {
    return constant ? W(0) : (x * factor - low) / width;
  }
};

template <class W>
struct Score {
  const W* uncertainty;
  const W* distances;
  const unsigned char* present;
  W weight[kMaxModalities];
  W beta;
  std::int64_t rows;
  int columns;
  const Key<W>* keys;
  const Key<W>* distance_keys;
  W* score;
  W* unit;
  W* distance_unit;

  __device__ __forceinline__ bool has(std::int64_t row, int m) const {
    return present == nullptr || present[row * columns + m] != 0;
  }
};

// Divisor of a row's weights: 1, or the sum of the weights of its modalities. If that sum is 0, the
// modalities have equal weights, which is returned as minus their number.
template <class W>
__device__ __forceinline__ W weight_sum(const Score<W>& a, std::int64_t row, int columns) {
  if (a.present == nullptr) return 1;
  W sum = 0;
  W there = 0;
  for (int m = 0; m < columns; ++m) {
    if (!a.has(row, m)) continue;
    sum += a.weight[m];
    there += 1;
  }
  return sum > 0 ? sum : -there;
}

template <class W>
__device__ __forceinline__ W share(const Score<W>& a, int m, W sum) {
  return sum > 0 ? a.weight[m] / sum : -1 / sum;
}

// One row per thread.
template <class W>
__global__ void __launch_bounds__(kThreads) score_rows(const Score<W> a, std::int64_t begin) {
  const std::int64_t step = gridDim.x * static_cast<std::int64_t>(kThreads);
  Rescale<W> rescale_distance;
  if (a.distances != nullptr) rescale_distance.read(a.distance_keys, 1, 0);
  for (std::int64_t row = begin + blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
       row < a.rows; row += step) {
    const W d = a.distances == nullptr ? W(0) : rescale_distance(a.distances[row]);
    const W sum = weight_sum(a, row, a.columns);
    W q = a.beta * d;
    for (int m = 0; m < a.columns; ++m) {
      W u = 0;
      if (a.has(row, m)) {
        Rescale<W> rescale;
        rescale.read(a.keys, a.columns, m);
        u = rescale(a.uncertainty[row * a.columns + m]);
        q += share(a, m, sum) * u;
      }
      a.unit[row * a.columns + m] = u;
    }
    a.distance_unit[row] = d;
    a.score[row] = q;
  }
}

// Four rows of M modalities per thread; all memory is aligned to 16 bytes.
template <class W, int M>
__global__ void __launch_bounds__(kThreads) score_vectors(const Score<W> a) {
  const std::int64_t first = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  const std::int64_t step = gridDim.x * static_cast<std::int64_t>(kThreads);
  Rescale<W> rescale[M];
#pragma unroll
  for (int m = 0; m < M; ++m) rescale[m].read(a.keys, M, m);
  Rescale<W> rescale_distance;
  if (a.distances != nullptr) rescale_distance.read(a.distance_keys, 1, 0);
  for (std::int64_t i = first; i < a.rows / kRows; i += step) {
    W u[kRows * M];
    W d[kRows] = {};
    W q[kRows];
    load_numbers(a.uncertainty + i * kRows * M, u);
    if (a.distances != nullptr) load_numbers(a.distances + i * kRows, d);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (a.distances != nullptr) d[r] = rescale_distance(d[r]);
      const W sum = weight_sum(a, i * kRows + r, M);
      q[r] = a.beta * d[r];
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const bool there = a.has(i * kRows + r, m);
        W& value = u[r * M + m];
        value = there ? rescale[m](value) : W(0);
        q[r] += there ? share(a, m, sum) * value : W(0);
      }
    }
    store_numbers(a.unit + i * kRows * M, u);
    store_numbers(a.distance_unit + i * kRows, d);
    store_numbers(a.score + i * kRows, q);
  }
}

template <class W, int M>
void launch_vectors(const Score<W>& a, Stream stream) {
  const std::int64_t wanted = a.rows / kRows;
  const std::int64_t most = multiprocessors() * std::int64_t{16};
  if (wanted > 0) {
    const auto blocks = std::min<std::int64_t>(ceil_div(wanted, kThreads), most);
    launch(&score_vectors<W, M>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), stream, a);
  }
}

template <class W>
void score_as(const ScorePass& p, Stream stream) {
  Score<W> a{};
  a.uncertainty = p.uncertainty.as<const W>();
  a.distances = reinterpret_cast<const W*>(p.distances);
  a.present = reinterpret_cast<const unsigned char*>(p.present);
  for (std::size_t m = 0; m < p.weights.size(); ++m) a.weight[m] = static_cast<W>(p.weights[m]);
  a.beta = static_cast<W>(p.beta);
  a.rows = p.uncertainty.rows;
  a.columns = static_cast<int>(p.uncertainty.columns);
  a.keys = reinterpret_cast<const Key<W>*>(p.keys);
  a.distance_keys = reinterpret_cast<const Key<W>*>(p.distance_keys);
  a.score = reinterpret_cast<W*>(p.score);
  a.unit = reinterpret_cast<W*>(p.unit);
  a.distance_unit = reinterpret_cast<W*>(p.distance_unit);
  const bool aligned =
      (p.uncertainty.data | p.distances | p.score | p.unit | p.distance_unit) % 16 == 0;
  std::int64_t done = 0;
  if (aligned && a.columns <= 4) {
    switch (a.columns) {
      case 1:
        launch_vectors<W, 1>(a, stream);
        break;
      case 2:
        launch_vectors<W, 2>(a, stream);
        break;
      case 3:
        launch_vectors<W, 3>(a, stream);
        break;
      default:
        launch_vectors<W, 4>(a, stream);
    }
    done = a.rows / kRows * kRows;
  }
  if (done < a.rows) {
    const auto blocks = std::min<std::int64_t>(ceil_div(a.rows - done, kThreads),
                                               multiprocessors() * std::int64_t{16});
    launch(&score_rows<W>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), stream, a, done);
  }
}

}  // namespace

void column_extremes(const Matrix& x, std::uintptr_t mask, std::uintptr_t keys,
                     std::uintptr_t first_bad, Stream stream) {
  if (x.rows == 0) return;
  const auto* kept = reinterpret_cast<const unsigned char*>(mask);
  auto* bad = reinterpret_cast<long long*>(first_bad);
  if (x.dtype == DType::kFloat64) {
    launch_extremes<double>(x, kept, reinterpret_cast<Key<double>*>(keys), bad, stream);
  } else {
    launch_extremes<float>(x, kept, reinterpret_cast<Key<float>*>(keys), bad, stream);
  }
}

void normalized_score(const ScorePass& pass, Stream stream) {
  if (pass.uncertainty.rows == 0) return;
  if (pass.uncertainty.dtype == DType::kFloat64) {
    score_as<double>(pass, stream);
  } else {
    score_as<float>(pass, stream);
  }
}

}  // namespace rlmba::cuda
