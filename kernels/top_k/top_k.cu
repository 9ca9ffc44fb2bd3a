#include <algorithm>
#include <cub/cub.cuh>

#include "select.cuh"
#include "top_k.cuh"

namespace rlmba::cuda {
namespace {

// Up to this many entries are sorted by comparing each with all others, in one launch that is
// shorter than the launches of a radix sort.
constexpr std::int64_t kRanked = 8192;
constexpr int kRankThreads = 256;

template <class C>
__device__ __forceinline__ std::int64_t position_of(C entry, const Task& task) {
  const C from_end = entry & ((C{1} << task.position_bits) - 1);
  return task.count - 1 - static_cast<std::int64_t>(from_end);
}

// One lane per entry; its rank is the number of larger entries. The warps of a block share the
// comparisons.
template <class T, class C>
__global__ void __launch_bounds__(kRankThreads)
    rank(const T* values, Task task, const State<C>* state, const C* survivors, Wide<T>* out,
         std::int64_t* indices) {
  __shared__ int places[kWarp];
  const int count = static_cast<int>(state->kept);
  const int first = static_cast<int>(blockIdx.x) * kWarp;
  if (first >= count) return;
  const int lane = threadIdx.x % kWarp;
  if (threadIdx.x < kWarp) places[lane] = 0;
  __syncthreads();
  const bool inside = first + lane < count;
  const C own = survivors[inside ? first + lane : first];
  constexpr int kSize = Vector<C>::kSize;
  constexpr int kStep = kRankThreads / kWarp * kSize;
  const int begin = static_cast<int>(threadIdx.x) / kWarp * kSize;
  int place = 0;
#pragma unroll 4
  for (int j = begin; j + kSize <= count; j += kStep) {
    const auto some = *reinterpret_cast<const Vector<C>*>(survivors + j);
#pragma unroll
    for (int e = 0; e < kSize; ++e) place += some.x[e] > own;
  }
  // At most one entry remains, and only one warp reads it.
  const int rest = count / kSize * kSize;
  if (rest < count && rest % kStep == begin) place += survivors[rest] > own;
  atomicAdd(&places[lane], place);
  __syncthreads();
  if (threadIdx.x < kWarp && inside && places[lane] < task.k) {
    const std::int64_t position = position_of(own, task);
    indices[places[lane]] = position;
    out[places[lane]] = widen(values[position]);
  }
}

template <class T, class C>
__global__ void unpack(const T* values, Task task, const C* sorted, Wide<T>* out,
                       std::int64_t* indices) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
  if (i >= task.k) return;
  const std::int64_t position = position_of(sorted[i], task);
  indices[i] = position;
  out[i] = widen(values[position]);
}

Task make_task(int key_bits, std::int64_t count, std::int64_t k) {
  Task task{count, k, k <= kRanked ? kRanked : k, 0, 0, 0};
  while (task.position_bits < 63 && (count - 1) >> task.position_bits != 0) ++task.position_bits;
  task.bits = key_bits + task.position_bits;
  if (count > task.limit) task.room = std::max<std::int64_t>(count / 8, 1);
  return task;
}

template <class C>
void sort(void* scratch, std::size_t& bytes, const C* in, C* out, const Task& task, Stream stream) {
  check(cub::DeviceRadixSort::SortKeysDescending(scratch, bytes, in, out, task.k, 0, task.bits,
                                                 reinterpret_cast<cudaStream_t>(stream)));
}

// Layout of the scratch memory.
template <class C>
struct Scratch {
  std::uintptr_t state, entries, survivors, sorted, sorting, end;
  std::size_t sort_bytes = 0;

  Scratch(std::uintptr_t begin, const Task& task) : state(begin) {
    const auto after = [](std::uintptr_t at, std::uint64_t bytes) {
      return at + (bytes + 255) / 256 * 256;
    };
    entries = after(state, sizeof(State<C>));
    survivors = after(entries, task.room * sizeof(C));
    sorted = after(survivors, task.limit * sizeof(C));
    sorting = end = sorted;
    if (task.k <= kRanked) return;
    sort<C>(nullptr, sort_bytes, nullptr, nullptr, task, 0);
    sorting = after(sorted, task.k * sizeof(C));
    end = after(sorting, sort_bytes);
  }
};

template <class T, class C>
void run(const Matrix& values, const Task& task, std::uintptr_t out, std::uintptr_t indices,
         std::uintptr_t scratch, long long* bad, Stream stream) {
  Scratch<C> parts(scratch, task);
  auto* state = reinterpret_cast<State<C>*>(parts.state);
  auto* survivors = reinterpret_cast<C*>(parts.survivors);
  auto* to = reinterpret_cast<Wide<T>*>(out);
  auto* places = reinterpret_cast<std::int64_t*>(indices);
  const auto* from = values.as<const T>();
  const std::int64_t vectors = task.count / Vector<T>::kSize + 2;
  const dim3 grid(std::min(ceil_div(vectors, kThreads * kUnroll), 2 * multiprocessors()));
  const dim3 block(kThreads);
  launch(&start<C>, dim3(1), block, stream, state, task);
  launch(&first_digit<T, C>, grid, block, stream, from, task, state, bad);
  for (int seen = kDigit; seen < task.bits + kDigit; seen += kDigit) {
    launch(&next_digit<T, C>, grid, block, stream, from, task, state,
           reinterpret_cast<C*>(parts.entries), survivors);
  }
  if (task.k <= kRanked) {
    const std::int64_t most = std::min(task.count, task.limit);
    launch(&rank<T, C>, dim3(ceil_div(most, kWarp)), dim3(kRankThreads), stream, from, task, state,
           survivors, to, places);
    return;
  }
  auto* sorted = reinterpret_cast<C*>(parts.sorted);
  sort<C>(reinterpret_cast<void*>(parts.sorting), parts.sort_bytes, survivors, sorted, task,
          stream);
  launch(&unpack<T, C>, dim3(ceil_div(task.k, kThreads)), block, stream, from, task, sorted, to,
         places);
}

// Calls function(T{}, C{}) with the types of numbers and entries.
template <class Function>
void with_types(DType dtype, std::int64_t count, std::int64_t k, const Function& function) {
  with_type(dtype, [&](auto element) {
    using T = decltype(element);
    const Task task = make_task(KeyBits<T>::value, count, k);
    if constexpr (KeyBits<T>::value < 64) {
      if (task.bits <= 64) return function(element, 0ull, task);
    }
    if constexpr (KeyBits<T>::value >= 32)
      function(element, static_cast<unsigned __int128>(0), task);
  });
}

}  // namespace

std::int64_t top_k_scratch(const Matrix& values, std::int64_t k) {
  std::int64_t bytes = 0;
  with_types(values.dtype, values.rows, k, [&](auto, auto entry, const Task& task) {
    bytes = static_cast<std::int64_t>(Scratch<decltype(entry)>(0, task).end);
  });
  return bytes;
}

void top_k(const Matrix& values, std::int64_t k, std::uintptr_t out, std::uintptr_t indices,
           std::uintptr_t scratch, std::uintptr_t first_bad, Stream stream) {
  with_types(values.dtype, values.rows, k, [&](auto element, auto entry, const Task& task) {
    run<decltype(element), decltype(entry)>(values, task, out, indices, scratch,
                                            reinterpret_cast<long long*>(first_bad), stream);
  });
}

}  // namespace rlmba::cuda
