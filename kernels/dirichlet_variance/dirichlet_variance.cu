#include <algorithm>
#include <cstring>

#include "dirichlet_variance.cuh"
#include "evidence.cuh"
#include "rlmba/cuda/device.cuh"

// Four lanes process a row, 16 bytes each, in pieces of 64 bytes; a warp has eight rows. With short
// pieces, few lanes are idle at the end of a row, and sums need two exchanges. Rows need not be
// aligned to 16 bytes: a lane reads the aligned vectors that contain the row and ignores the
// elements around it.
namespace rlmba::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kGroup = 4;
constexpr int kBlockRows = kThreads / kGroup;
// Vectors that a lane sums before it begins another sum, which limits the rounding error.
constexpr int kSumVectors = 8;

template <class T, int K>
struct Rows {
  const T* x[K];
  std::int64_t stride[K];
  Scale scale[K];
  float weight[K];
  int count;
  std::int64_t rows;
  int classes;
  bool aligned;    // rows of all modalities have the same offset within 16 bytes
  bool every_row;  // and every row is aligned to 16 bytes
  const float* row_weights;
  const unsigned char* present;
  int columns;  // of modality, row_weights and present
  int column;   // of x[0] in them
  float* modality;
  float* fused;
  std::uint32_t* extremes;
  int* unfinished;
};

__device__ __forceinline__ void unpack(const uint4& words, float (&x)[4], float) {
  x[0] = __uint_as_float(words.x);
  x[1] = __uint_as_float(words.y);
  x[2] = __uint_as_float(words.z);
  x[3] = __uint_as_float(words.w);
}
__device__ __forceinline__ void unpack(const uint4& words, float (&x)[8], __nv_bfloat16) {
  const unsigned w[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[2 * i] = __uint_as_float(w[i] << 16);
    x[2 * i + 1] = __uint_as_float(w[i] & 0xFFFF0000u);
  }
}
__device__ __forceinline__ void unpack(const uint4& words, float (&x)[8], __half) {
  __half h[8];
  std::memcpy(h, &words, sizeof(h));
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = __half2float(h[i]);
}

// Vector of columns [first, first + V) of a row; columns beyond the row are undefined.
template <class T>
__device__ __forceinline__ uint4 fetch_edge(const T* row, int first, int classes, bool aligned,
                                            const T* begin, const T* end) {
  constexpr int V = 16 / sizeof(T);
  const T* at = row + first;
  if (aligned && at >= begin && at + V <= end) return __ldg(reinterpret_cast<const uint4*>(at));
  T values[V];
  std::memset(values, 0, sizeof(values));
#pragma unroll
  for (int q = 0; q < V; ++q) {
    if (static_cast<unsigned>(first + q) < static_cast<unsigned>(classes)) values[q] = at[q];
  }
  uint4 words;
  std::memcpy(&words, values, sizeof(words));
  return words;
}

template <class T, int K>
__device__ __forceinline__ float row_weight(const Rows<T, K>& a, std::int64_t row, int m) {
  return a.row_weights == nullptr ? a.weight[m] : a.row_weights[row * a.columns + a.column + m];
}

template <class T, int K>
__device__ __forceinline__ bool is_present(const Rows<T, K>& a, std::int64_t row, int m) {
  return a.present == nullptr || a.present[row * a.columns + a.column + m] != 0;
}

// 1 / (sum of the weights of present modalities); if that sum is 0, minus 1 / (their number).
template <class T, int K>
__device__ __forceinline__ float weight_factor(const Rows<T, K>& a, std::int64_t row, int count) {
  if (a.present == nullptr) return 1;
  float sum = 0;
  int there = 0;
  for (int m = 0; m < count; ++m) {
    if (!is_present(a, row, m)) continue;
    sum += row_weight(a, row, m);
    ++there;
  }
  return sum > 0 ? 1 / sum : -1 / static_cast<float>(there);
}

template <class T, int K>
__device__ __forceinline__ float shared_out(const Rows<T, K>& a, std::int64_t row, int m,
                                            float factor) {
  if (!is_present(a, row, m)) return 0;
  return factor < 0 ? -factor : row_weight(a, row, m) * factor;
}

// A lane's share of its row.
template <class T, class E, int SETS>
struct Work {
  static constexpr int V = 16 / sizeof(T);
  Sums<float> part[SETS];
  Sums<float> sums[SETS];
  float probe[SETS];
  float fused[V];

  __device__ __forceinline__ void add_vector(const uint4& words, int first, int classes,
                                             bool masked, Scale scale, float weight, bool begin,
                                             int set) {
    float x[V];
    unpack(words, x, T{});
#pragma unroll
    for (int q = 0; q < V; ++q) {
      const bool inside =
          !masked || static_cast<unsigned>(first + q) < static_cast<unsigned>(classes);
      float e = E::apply(x[q], scale, q % 2 == 0);
      e = inside ? e : 0.0f;
      if (set >= 0) {
        part[set].add(e);
        if (E::kProbe) probe[set] += inside ? E::probe(x[q]) : 0.0f;
      }
      fused[q] = begin ? weight * e : fmaf(weight, e, fused[q]);
    }
  }
  __device__ __forceinline__ void add_fused() {
#pragma unroll
    for (int q = 0; q < V; ++q) part[SETS - 1].add(fused[q]);
  }
  __device__ __forceinline__ void flush() {
#pragma unroll
    for (int s = 0; s < SETS; ++s) {
      sums[s].merge(part[s]);
      part[s] = Sums<float>{};
    }
  }
};

// The sums of a row over its four lanes: of M modalities at the same time or, for M = 0, only of
// the fused alpha of any number of modalities.
template <class T, class E, int M, int K, int SETS>
__device__ __forceinline__ void sum_row(const Rows<T, K>& a, std::int64_t row, int lane,
                                        Work<T, E, SETS>& work) {
  constexpr int V = 16 / sizeof(T);
  constexpr int kPiece = kGroup * V;
  const int count = M > 0 ? M : a.count;
  const int lead =
      a.aligned ? static_cast<int>(reinterpret_cast<std::uintptr_t>(a.x[0] + row * a.stride[0]) %
                                   16 / sizeof(T))
                : 0;
  const int pieces = (a.classes + (a.every_row || !a.aligned ? 0 : V - 1) + kPiece - 1) / kPiece;
  const int whole_begin = a.every_row ? 0 : 1;
  const int whole_end = a.aligned ? a.classes / kPiece : 0;
  const float factor = weight_factor(a, row, count);
  const auto fetch = [&](int m, int piece) {
    const T* at = a.x[m] + row * a.stride[m];
    const int first = piece * kPiece + lane * V - lead;
    if (!is_present(a, row, m)) return uint4{0, 0, 0, 0};
    if (piece >= whole_begin && piece < whole_end) {
      return __ldg(reinterpret_cast<const uint4*>(at + first));
    }
    return fetch_edge(at, first, a.classes, a.aligned, a.x[m],
                      a.x[m] + (a.rows - 1) * a.stride[m] + a.classes);
  };
  if constexpr (M > 0) {
    float weight[M];
    uint4 next[M];
#pragma unroll
    for (int m = 0; m < M; ++m) weight[m] = shared_out(a, row, m, factor);
#pragma unroll
    for (int m = 0; m < M; ++m) next[m] = fetch(m, 0);
    for (int piece = 0; piece < pieces; ++piece) {
      uint4 words[M];
#pragma unroll
      for (int m = 0; m < M; ++m) words[m] = next[m];
      if (piece + 1 < pieces) {
#pragma unroll
        for (int m = 0; m < M; ++m) next[m] = fetch(m, piece + 1);
      }
      const int first = piece * kPiece + lane * V - lead;
      if (piece >= whole_begin && piece < whole_end) {
#pragma unroll
        for (int m = 0; m < M; ++m) {
          work.add_vector(words[m], first, a.classes, false, a.scale[m], weight[m], m == 0, m);
        }
      } else {
#pragma unroll
        for (int m = 0; m < M; ++m) {
          work.add_vector(words[m], first, a.classes, true, a.scale[m], weight[m], m == 0, m);
        }
      }
      work.add_fused();
      if (piece % kSumVectors == kSumVectors - 1) work.flush();
    }
  } else {
    for (int piece = 0; piece < pieces; ++piece) {
      for (int m = 0; m < count; ++m) {
        work.add_vector(fetch(m, piece), piece * kPiece + lane * V - lead, a.classes, true,
                        a.scale[m], shared_out(a, row, m, factor), m == 0, -1);
      }
      work.add_fused();
      if (piece % kSumVectors == kSumVectors - 1) work.flush();
    }
  }
  work.flush();
}

// Eq 4 from sums in E's unit; NaN if float32 is not sufficient or a number is invalid.
template <class E>
__device__ __forceinline__ float variance_of(const Sums<float>& s, int classes) {
  const double c = classes;
  constexpr double kPerUnit = 1 / E::kUnit;
  const double sum = s.e1 * kPerUnit;
  const double total = E::kBase * c + sum;
  const double pairs = E::kBase * (c - 1) * (c / 2 + sum) + s.e2 * (kPerUnit * kPerUnit);
  const bool good = s.e1 < 1e18f && (E::kBase > 0 || pairs > 1e-28);
  return good ? static_cast<float>(mean_variance(total, pairs, c)) : NAN;
}

template <class T, class E, int M, int K>
__global__ void __launch_bounds__(kThreads) fast_rows(const Rows<T, K> a) {
  constexpr int kSets = M + 1;
  const int lane = threadIdx.x % kGroup;
  float lowest = INFINITY;
  float highest = -INFINITY;
  for (std::int64_t block = blockIdx.x; block * kBlockRows < a.rows; block += gridDim.x) {
    const std::int64_t wanted = block * kBlockRows + threadIdx.x / kGroup;
    const std::int64_t row = wanted < a.rows ? wanted : a.rows - 1;
    Work<T, E, kSets> work = {};
    sum_row<T, E, M>(a, row, lane, work);
    Sums<float> mine;
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      if (E::kProbe && s < M) work.sums[s].e1 += work.probe[s];
      work.sums[s].merge_lanes(kGroup);
      if (lane == s) mine = work.sums[s];
    }
    if (wanted >= a.rows || lane >= kSets || (lane == M && a.fused == nullptr)) continue;
    const bool absent = lane < M && !is_present(a, row, lane);
    const float variance = absent ? 0.0f : variance_of<E>(mine, a.classes);
    if (isnan(variance)) atomicMax(a.unfinished, 1);
    if (lane == M) {
      a.fused[row] = variance;
    } else {
      a.modality[row * a.columns + a.column + lane] = variance;
      if (!absent && !isnan(variance)) {
        lowest = variance < lowest ? variance : lowest;
        highest = variance > highest ? variance : highest;
      }
    }
  }
  if (M == 0 || a.extremes == nullptr) return;
  __syncwarp();
#pragma unroll
  for (int bit = kGroup; bit < kWarp; bit *= 2) {
    const float low = __shfl_xor_sync(0xFFFFFFFFu, lowest, bit);
    const float high = __shfl_xor_sync(0xFFFFFFFFu, highest, bit);
    lowest = low < lowest ? low : lowest;
    highest = high > highest ? high : highest;
  }
  if (static_cast<int>(threadIdx.x) % kWarp < M && lowest <= highest) {
    atomicMin(&a.extremes[a.column + lane], ordered_key(lowest));
    atomicMax(&a.extremes[a.columns + a.column + lane], ordered_key(highest));
  }
}

// Modalities [column, column + count) of the pass.
template <class T, class E, int K>
Rows<T, K> rows_of(const DirichletPass& p, int column, int count) {
  const Matrix& first = p.x[column];
  Rows<T, K> a{};
  a.count = count;
  a.rows = first.rows;
  a.classes = static_cast<int>(first.columns);
  a.aligned = true;
  for (int m = 0; m < count; ++m) {
    const Matrix& x = p.x[column + m];
    a.x[m] = x.as<const T>();
    a.stride[m] = x.stride;
    a.scale[m] = E::scale(p.temperatures[column + m]);
    a.weight[m] = static_cast<float>(p.weights[column + m]);
    const auto offset = [](const Matrix& y) { return y.data % 16; };
    const auto step = [](const Matrix& y) { return y.stride * sizeof(T) % 16; };
    a.aligned &= offset(x) == offset(first) && step(x) == step(first);
  }
  a.every_row =
      a.aligned && first.data % 16 == 0 && (first.stride * sizeof(T) % 16 == 0 || first.rows == 1);
  a.row_weights = reinterpret_cast<const float*>(p.row_weights);
  a.present = reinterpret_cast<const unsigned char*>(p.present);
  a.columns = static_cast<int>(p.x.size());
  a.column = column;
  a.modality = reinterpret_cast<float*>(p.modality);
  a.fused = reinterpret_cast<float*>(p.fused);
  a.extremes = reinterpret_cast<std::uint32_t*>(p.extremes);
  a.unfinished = reinterpret_cast<int*>(p.unfinished);
  return a;
}

template <class T, class E, int M, int K>
void launch_rows(const Rows<T, K>& a, Stream stream) {
  const std::int64_t wanted = (a.rows + kBlockRows - 1) / kBlockRows;
  const auto grid = static_cast<unsigned>(std::min<std::int64_t>(wanted, multiprocessors() * 32));
  launch(&fast_rows<T, E, M, K>, dim3(grid), dim3(kThreads), stream, a);
}

template <class T, class E>
void fast_pass(const DirichletPass& p, Stream stream) {
  const int count = static_cast<int>(p.x.size());
  switch (count) {
    case 1:
      return launch_rows<T, E, 1>(rows_of<T, E, 1>(p, 0, 1), stream);
    case 2:
      return launch_rows<T, E, 2>(rows_of<T, E, 2>(p, 0, 2), stream);
    case 3:
      return launch_rows<T, E, 3>(rows_of<T, E, 3>(p, 0, 3), stream);
    default:
      break;
  }
  // For more modalities than fit in registers: one modality at a time, then the fused alpha.
  for (int m = 0; m < count; ++m) {
    Rows<T, 1> a = rows_of<T, E, 1>(p, m, 1);
    a.fused = nullptr;
    launch_rows<T, E, 1>(a, stream);
  }
  if (p.fused != 0) {
    launch_rows<T, E, 0>(rows_of<T, E, kMaxModalities>(p, 0, count), stream);
  }
}

template <class T>
void fast_pass_as(const DirichletPass& p, Stream stream) {
  switch (p.evidence) {
    case Evidence::kAlpha:
      return fast_pass<T, IsAlpha>(p, stream);
    case Evidence::kExp:
      return fast_pass<T, Exponential>(p, stream);
    case Evidence::kRelu:
      return fast_pass<T, Rectifier>(p, stream);
    default:
      return fast_pass<T, Softplus>(p, stream);
  }
}

}  // namespace

void dirichlet_variance(const DirichletPass& pass, Stream stream) {
  if (pass.x.empty() || pass.x[0].rows == 0) return;
  switch (pass.x[0].dtype) {
    case DType::kFloat16:
      fast_pass_as<__half>(pass, stream);
      break;
    case DType::kBFloat16:
      fast_pass_as<__nv_bfloat16>(pass, stream);
      break;
    case DType::kFloat32:
      fast_pass_as<float>(pass, stream);
      break;
    case DType::kFloat64:
      return careful_rows(pass, true, stream);
  }
  careful_rows(pass, false, stream);
}

}  // namespace rlmba::cuda
