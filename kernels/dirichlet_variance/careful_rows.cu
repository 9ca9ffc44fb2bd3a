#include <algorithm>

#include "dirichlet_variance.cuh"
#include "evidence.cuh"
#include "rlmba/cuda/device.cuh"

// One warp per row, in float64. Used for all rows of float64 input, and for the few rows of other
// input whose sums left the range in which float32 is precise.
namespace rlmba::cuda {
namespace {

constexpr int kThreads = 128;

template <class T>
struct Rows {
  const T* x[kMaxModalities];
  std::int64_t stride[kMaxModalities];
  double temperature[kMaxModalities];
  double weight[kMaxModalities];
  int count;
  std::int64_t rows;
  std::int64_t first_row;
  int classes;
  Evidence evidence;
  bool all;
  const Wide<T>* row_weights;
  const unsigned char* present;
  Wide<T>* modality;
  Wide<T>* fused;
  const int* unfinished;
  long long* first_bad;

  __device__ bool has(std::int64_t row, int m) const {
    return present == nullptr || present[row * count + m] != 0;
  }
  __device__ double given_weight(std::int64_t row, int m) const {
    return row_weights == nullptr ? weight[m] : static_cast<double>(row_weights[row * count + m]);
  }
  __device__ double number(std::int64_t row, int m, int c) const {
    return widen(x[m][row * stride[m] + c]);
  }
  __device__ double shift() const { return evidence == Evidence::kAlpha ? 0 : 1; }
  __device__ bool is_unfinished(std::int64_t row) const {
    bool found = all;
    for (int m = 0; m < count; ++m) found |= isnan(modality[row * count + m]);
    return found || (fused != nullptr && isnan(fused[row]));
  }
};

// Eq 4 of alpha(c), even if sums of alpha or of pairs leave the range of float64.
template <class Alpha>
__device__ double variance_of(int classes, const Alpha& alpha) {
  const int lane = threadIdx.x % kWarp;
  Sums<double> sums;
  for (int c = lane; c < classes; c += kWarp) sums.add(alpha(c));
  sums.merge_lanes(kWarp);
  if (sums.e1 < 1e100 && sums.e2 > 1e-200) return mean_variance(sums.e1, sums.e2, classes);
  double largest = 0;
  for (int c = lane; c < classes; c += kWarp) {
    const double a = alpha(c);
    largest = a > largest ? a : largest;
  }
  for (int bit = kWarp / 2; bit > 0; bit /= 2) {
    const double other = __shfl_xor_sync(0xFFFFFFFFu, largest, bit);
    largest = other > largest ? other : largest;
  }
  if (!isfinite(largest)) return 0;
  sums = Sums<double>{};
  for (int c = lane; c < classes; c += kWarp) sums.add(alpha(c) / largest);
  sums.merge_lanes(kWarp);
  return 2 * sums.e2 / (sums.e1 * sums.e1) / (sums.e1 * largest + 1) / classes;
}

template <class T>
__device__ bool is_valid(const Rows<T>& a, std::int64_t row, int m) {
  bool good = true;
  for (int c = threadIdx.x % kWarp; c < a.classes; c += kWarp) {
    const double x = a.number(row, m, c);
    good &= isfinite(x) && (a.evidence != Evidence::kAlpha || x > 0);
  }
  return __all_sync(0xFFFFFFFFu, good);
}

template <class T>
__device__ double fused_variance(const Rows<T>& a, std::int64_t row) {
  double sum = 0;
  int there = 0;
  for (int m = 0; m < a.count; ++m) {
    if (!a.has(row, m)) continue;
    sum += a.given_weight(row, m);
    ++there;
  }
  const double factor = a.present == nullptr ? 1 : 1 / sum;
  return variance_of(a.classes, [&](int c) {
    double alpha = a.shift();
    for (int m = 0; m < a.count; ++m) {
      if (!a.has(row, m)) continue;
      const double w = sum > 0 ? a.given_weight(row, m) * factor : 1.0 / there;
      if (w > 0) alpha += w * exact_evidence(a.evidence, a.number(row, m, c), a.temperature[m]);
    }
    return alpha;
  });
}

// False if the row has an invalid number. Existing results are kept.
template <class T, class Note>
__device__ bool finish_row(const Rows<T>& a, std::int64_t row, const Note& note) {
  const bool leads = threadIdx.x % kWarp == 0;
  for (int m = 0; m < a.count; ++m) {
    Wide<T>* const out = &a.modality[row * a.count + m];
    if (!a.all && !isnan(*out)) continue;
    double variance = 0;
    if (a.has(row, m)) {
      if (!is_valid(a, row, m)) return false;
      variance = variance_of(a.classes, [&](int c) {
        return a.shift() + exact_evidence(a.evidence, a.number(row, m, c), a.temperature[m]);
      });
      if (leads) note(m, static_cast<Wide<T>>(variance));
    }
    __syncwarp();
    if (leads) *out = static_cast<Wide<T>>(variance);
  }
  if (a.fused == nullptr || (!a.all && !isnan(a.fused[row]))) return true;
  const double variance = fused_variance(a, row);
  if (leads) a.fused[row] = static_cast<Wide<T>>(variance);
  return true;
}

template <class T, class Key>
__global__ void __launch_bounds__(kThreads) finish(const Rows<T> a, Key* extremes) {
  if (!a.all && *a.unfinished == 0) return;
  __shared__ Key low[kMaxModalities];
  __shared__ Key high[kMaxModalities];
  for (int m = threadIdx.x; m < a.count; m += kThreads) {
    low[m] = ~Key{0};
    high[m] = 0;
  }
  __syncthreads();
  const auto note = [](int m, Wide<T> variance) {
    atomicMin(&low[m], ordered_key(variance));
    atomicMax(&high[m], ordered_key(variance));
  };
  const std::int64_t warps = gridDim.x * static_cast<std::int64_t>(kThreads / kWarp);
  const std::int64_t warp =
      (blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x) / kWarp;
  for (std::int64_t first = warp * kWarp; first < a.rows; first += warps * kWarp) {
    const std::int64_t mine = first + threadIdx.x % kWarp;
    unsigned open = __ballot_sync(0xFFFFFFFFu, mine < a.rows && a.is_unfinished(mine));
    for (; open != 0; open &= open - 1) {
      const std::int64_t row = first + __ffs(static_cast<int>(open)) - 1;
      const bool valid = finish_row(a, row, note);
      if (!valid && threadIdx.x % kWarp == 0) report(a.first_bad, a.first_row + row);
    }
  }
  if (extremes == nullptr) return;
  __syncthreads();
  for (int m = threadIdx.x; m < a.count; m += kThreads) {
    atomicMin(&extremes[m], low[m]);
    atomicMax(&extremes[a.count + m], high[m]);
  }
}

}  // namespace

void careful_rows(const DirichletPass& p, bool all, Stream stream) {
  with_type(p.x[0].dtype, [&](auto element) {
    using T = decltype(element);
    using Key = decltype(ordered_key(Wide<T>{}));
    Rows<T> a{};
    a.count = static_cast<int>(p.x.size());
    for (int m = 0; m < a.count; ++m) {
      a.x[m] = p.x[m].template as<const T>();
      a.stride[m] = p.x[m].stride;
      a.temperature[m] = p.temperatures[m];
      a.weight[m] = p.weights[m];
    }
    a.rows = p.x[0].rows;
    a.first_row = p.first_row;
    a.classes = static_cast<int>(p.x[0].columns);
    a.evidence = p.evidence;
    a.all = all;
    a.row_weights = reinterpret_cast<const Wide<T>*>(p.row_weights);
    a.present = reinterpret_cast<const unsigned char*>(p.present);
    a.modality = reinterpret_cast<Wide<T>*>(p.modality);
    a.fused = reinterpret_cast<Wide<T>*>(p.fused);
    a.unfinished = reinterpret_cast<const int*>(p.unfinished);
    a.first_bad = reinterpret_cast<long long*>(p.first_bad);
    const int blocks = std::min<std::int64_t>(ceil_div(a.rows, kThreads), multiprocessors() * 8);
    launch(&finish<T, Key>, dim3(blocks), dim3(kThreads), stream, a,
           reinterpret_cast<Key*>(p.extremes));
  });
}

}  // namespace rlmba::cuda
