#pragma once

// A number and its position form one integer, an entry: the ordered key of the number in the high
// bits, the position counted from the end in the low bits. Entries are distinct, and their
// decreasing order is the order of the result, including ties. The k largest are found digit by
// digit from the top: count digits, find the digit of the k-th entry, keep the entries not below
// it. All control stays on the device; kernels without remaining work return at once.

#include <cstdint>
#include <type_traits>

#include "rlmba/cuda/device.cuh"

namespace rlmba::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kUnroll = 4;
constexpr int kDigit = 12;
constexpr int kBins = 1 << kDigit;
constexpr int kBinsEach = kBins / kThreads;

// The bits of the ordered key in which numbers of a type can differ.
template <class T>
struct KeyBits : std::integral_constant<int, 32> {};
template <>
struct KeyBits<double> : std::integral_constant<int, 64> {};
template <>
struct KeyBits<__nv_bfloat16> : std::integral_constant<int, 16> {};
template <>
struct KeyBits<__half> : std::integral_constant<int, 19> {};

// -0 becomes +0, which is equal.
template <class W>
__device__ __forceinline__ auto key_of(W value, int bits) {
  const auto key = ordered_key(value + W(0));
  return key >> (static_cast<int>(sizeof(key)) * 8 - bits);
}

struct Task {
  std::int64_t count;
  std::int64_t k;
  std::int64_t limit;  // entries that the last step sorts: at least k
  std::int64_t room;   // entries that can be stored in between
  int position_bits;
  int bits;  // of an entry
};

template <class C>
struct State {
  C floor;              // entries below are out
  C ceiling;            // entries above are selected; those between share the digits so far
  std::int64_t above;   // entries above the ceiling
  std::int64_t kept;    // entries not below the floor
  std::int64_t stored;  // number of stored entries; 0: read the numbers
  int shift;            // bits below the digits so far
  int done;
  unsigned arrived;
  unsigned long long appended;
  unsigned long long counts[kBins];
};

template <class C>
__global__ void start(State<C>* state, Task task) {
  for (int b = threadIdx.x; b < kBins; b += kThreads) state->counts[b] = 0;
  if (threadIdx.x != 0) return;
  state->floor = 0;
  state->ceiling = ~C{0};
  state->above = 0;
  state->kept = task.count;
  state->stored = 0;
  state->shift = task.bits;
  state->done = 0;
  state->arrived = 0;
  state->appended = 0;
}

template <class E>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / sizeof(E);
  E x[kSize];
};

// Calls use(vector, position of its first element, bit mask of its valid elements) for vectors that
// together hold data[0, count), each once. All lanes of a warp make the same number of calls.
template <class E, class Use>
__device__ __forceinline__ void sweep(const E* data, std::int64_t count, const Use& use) {
  constexpr int kSize = Vector<E>::kSize;
  const int before = static_cast<int>(reinterpret_cast<std::uintptr_t>(data) % 16 / sizeof(E));
  const std::int64_t vectors = (before + count + kSize - 1) / kSize;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads * kUnroll;
  for (std::int64_t base = static_cast<std::int64_t>(blockIdx.x) * kThreads * kUnroll;
       base < vectors; base += step) {
    Vector<E> vector[kUnroll];
    unsigned there[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const std::int64_t first = (base + u * kThreads + threadIdx.x) * kSize - before;
      there[u] = 0;
      if (first >= 0 && first + kSize <= count) {
        vector[u] = *reinterpret_cast<const Vector<E>*>(data + first);
        there[u] = (1u << kSize) - 1;
      } else {
#pragma unroll
        for (int e = 0; e < kSize; ++e) {
          const bool inside = first + e >= 0 && first + e < count;
          vector[u].x[e] = inside ? data[first + e] : E{};
          there[u] |= inside ? 1u << e : 0u;
        }
      }
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      use(vector[u], (base + u * kThreads + threadIdx.x) * kSize - before, there[u]);
    }
  }
}

// Whether this block is the last to arrive; it then sees what the others wrote.
template <class C>
__device__ bool last_block(State<C>* state) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&state->arrived, 1u) + 1 == gridDim.x;
  __syncthreads();
  __threadfence();
  return last;
}

template <class C>
__device__ void add_counts(const unsigned* counts, State<C>* state) {
  for (int b = threadIdx.x; b < kBins; b += kThreads) {
    if (counts[b]) atomicAdd(&state->counts[b], static_cast<unsigned long long>(counts[b]));
  }
}

// Finds the next digit of the k-th entry from the digit counts of entries from floor to ceiling.
// One block.
template <class C>
__device__ void choose_digit(State<C>* state, const Task& task) {
  __shared__ std::int64_t warp_total[kWarps];
  volatile unsigned long long* counts = state->counts;
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const int top = kBins - 1 - static_cast<int>(threadIdx.x) * kBinsEach;
  std::int64_t mine[kBinsEach];
  std::int64_t total = 0;
#pragma unroll
  for (int i = 0; i < kBinsEach; ++i) {
    mine[i] = static_cast<std::int64_t>(counts[top - i]);
    counts[top - i] = 0;
    total += mine[i];
  }
  std::int64_t before = total;
#pragma unroll
  for (int by = 1; by < kWarp; by *= 2) {
    const std::int64_t other = __shfl_up_sync(0xFFFFFFFFu, before, by);
    if (lane >= by) before += other;
  }
  if (lane == kWarp - 1) warp_total[warp] = before;
  __syncthreads();
  before -= total;
  for (int w = 0; w < warp; ++w) before += warp_total[w];
  const std::int64_t above = state->above;
  const std::int64_t needed = task.k - above;
  __syncthreads();
  if (before >= needed || before + total < needed) return;
#pragma unroll
  for (int i = 0; i < kBinsEach; ++i) {
    if (before < needed && before + mine[i] >= needed) {
      const int shift = state->shift > kDigit ? state->shift - kDigit : 0;
      const C floor = state->floor + (static_cast<C>(top - i) << shift);
      state->floor = floor;
      state->ceiling = floor + ((C{1} << shift) - 1);
      state->shift = shift;
      state->above = above + before;
      state->kept = above + before + mine[i];
    }
    before += mine[i];
  }
}

// Counts the first digit of all numbers and checks that they are finite. Where lanes of a warp add
// 1 to the same counter, the hardware adds their number at once.
template <class T, class C>
__global__ void __launch_bounds__(kThreads, 2)
    first_digit(const T* values, Task task, State<C>* state, long long* first_bad) {
  constexpr int kSize = Vector<T>::kSize;
  __shared__ unsigned counts[kBins];
  for (int b = threadIdx.x; b < kBins; b += kThreads) counts[b] = 0;
  __syncthreads();
  sweep(values, task.count, [&](const Vector<T>& vector, std::int64_t first, unsigned there) {
    bool finite = true;
    if (there == (1u << kSize) - 1) {
#pragma unroll
      for (int e = 0; e < kSize; ++e) {
        const auto value = widen(vector.x[e]);
        finite &= isfinite(value);
        atomicAdd(&counts[static_cast<int>(key_of(value, kDigit))], 1u);
      }
    } else {
#pragma unroll
      for (int e = 0; e < kSize; ++e) {
        if ((there >> e & 1u) == 0) continue;
        const auto value = widen(vector.x[e]);
        finite &= isfinite(value);
        atomicAdd(&counts[static_cast<int>(key_of(value, kDigit))], 1u);
      }
    }
    if (finite) return;
    for (int e = kSize - 1; e >= 0; --e) {
      if ((there >> e & 1u) != 0 && !isfinite(widen(vector.x[e]))) report(first_bad, first + e);
    }
  });
  __syncthreads();
  add_counts(counts, state);
  if (!last_block(state)) return;
  choose_digit(state, task);
  if (threadIdx.x == 0) state->arrived = 0;
}

// Appends the entries of a warp marked by `keep` to `target`, with one addition to `cursor`.
template <class C, int kSize>
__device__ __forceinline__ void append(const C (&entry)[kSize], unsigned keep, C* target,
                                       unsigned long long* cursor) {
  const int lane = threadIdx.x % kWarp;
  unsigned votes[kSize];
  unsigned total = 0;
#pragma unroll
  for (int e = 0; e < kSize; ++e) {
    votes[e] = __ballot_sync(0xFFFFFFFFu, (keep >> e & 1u) != 0);
    total += __popc(votes[e]);
  }
  unsigned long long at = 0;
  if (lane == 0) at = atomicAdd(cursor, static_cast<unsigned long long>(total));
  at = __shfl_sync(0xFFFFFFFFu, at, 0);
#pragma unroll
  for (int e = 0; e < kSize; ++e) {
    if (keep >> e & 1u) target[at + __popc(votes[e] & ((1u << lane) - 1))] = entry[e];
    at += __popc(votes[e]);
  }
}

// Processes one more digit. Kept entries are stored as soon as there is space for them. Once they
// are few enough to be sorted, they are written to `survivors`.
template <class T, class C>
__global__ void __launch_bounds__(kThreads, 2)
    next_digit(const T* values, Task task, State<C>* state, C* entries, C* survivors) {
  if (state->done) return;
  __shared__ unsigned counts[kBins];
  const C floor = state->floor;
  const C ceiling = state->ceiling;
  const std::int64_t kept = state->kept;
  const std::int64_t stored = state->stored;
  const int shift = state->shift > kDigit ? state->shift - kDigit : 0;
  const bool closing = kept <= task.limit;
  const bool storing = !closing && stored == 0 && kept <= task.room;
  C* const target = closing ? survivors : storing ? entries : nullptr;
  if (!closing) {
    for (int b = threadIdx.x; b < kBins; b += kThreads) counts[b] = 0;
    __syncthreads();
  }
  const auto take = [&](const auto& entry, unsigned keep) {
    if (target != nullptr) append(entry, keep, target, &state->appended);
    if (closing) return;
#pragma unroll
    for (int e = 0; e < static_cast<int>(sizeof(entry) / sizeof(C)); ++e) {
      if ((keep >> e & 1u) != 0 && entry[e] <= ceiling) {
        atomicAdd(&counts[static_cast<int>((entry[e] - floor) >> shift)], 1u);
      }
    }
  };
  if (stored > 0) {
    sweep(entries, stored, [&](const Vector<C>& vector, std::int64_t, unsigned there) {
      unsigned keep = 0;
#pragma unroll
      for (int e = 0; e < Vector<C>::kSize; ++e) keep |= vector.x[e] >= floor ? 1u << e : 0u;
      keep &= there;
      if (__any_sync(0xFFFFFFFFu, keep != 0)) take(vector.x, keep);
    });
  } else {
    constexpr int kSize = Vector<T>::kSize;
    using Key = decltype(ordered_key(Wide<T>{}));
    const Key least = static_cast<Key>(floor >> task.position_bits);
    sweep(values, task.count, [&](const Vector<T>& vector, std::int64_t first, unsigned there) {
      Key key[kSize];
      unsigned keep = 0;
#pragma unroll
      for (int e = 0; e < kSize; ++e) {
        key[e] = key_of(widen(vector.x[e]), KeyBits<T>::value);
        keep |= key[e] >= least ? 1u << e : 0u;
      }
      keep &= there;
      if (!__any_sync(0xFFFFFFFFu, keep != 0)) return;
      C entry[kSize];
#pragma unroll
      for (int e = 0; e < kSize; ++e) {
        const auto from_end = static_cast<unsigned long long>(task.count - 1 - first - e);
        entry[e] = (static_cast<C>(key[e]) << task.position_bits) | from_end;
        if (entry[e] < floor) keep &= ~(1u << e);
      }
      take(entry, keep);
    });
  }
  if (!closing) {
    __syncthreads();
    add_counts(counts, state);
  }
  if (!last_block(state)) return;
  if (!closing) choose_digit(state, task);
  if (threadIdx.x == 0) {
    state->arrived = 0;
    state->appended = 0;
    state->done = closing;
    if (storing) state->stored = kept;
  }
}

}  // namespace
}  // namespace rlmba::cuda
