#pragma once

// Runs CUDA kernels on the CPU, for tests on machines without a GPU: blocks one after another, the
// threads of a block as fibers that take turns at barriers and warp operations. What it checks is
// what a kernel computes, not how fast, nor that different blocks do not race.
//
// Emulated: thread and block indices, __shared__ (static), __syncthreads, __syncwarp, full-warp
// shuffles, votes, atomics, the math functions used. A barrier that some threads of a block never
// reach aborts with a message, where a GPU might go on.

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __CUDA_EMULATED__ 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ static
#define __constant__ static
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
using uint3 = dim3;

template <class T, int N>
struct alignas(sizeof(T) * N) EmulatedVector;
template <class T>
struct alignas(sizeof(T) * 2) EmulatedVector<T, 2> {
  T x, y;
};
template <class T>
struct alignas(sizeof(T) * 4) EmulatedVector<T, 4> {
  T x, y, z, w;
};
using float2 = EmulatedVector<float, 2>;
using float4 = EmulatedVector<float, 4>;
using uint2 = EmulatedVector<unsigned, 2>;
using uint4 = EmulatedVector<unsigned, 4>;
using int4 = EmulatedVector<int, 4>;
using double2 = EmulatedVector<double, 2>;
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}

namespace emulator {

constexpr int kWarp = 32;
constexpr std::size_t kStack = 256 * 1024;

enum class Wait { kNone, kBlock, kWarp, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Wait wait = Wait::kNone;
  dim3 index;
};

struct Machine {
  ucontext_t scheduler;
  std::vector<Fiber> fibers;
  std::vector<std::uint64_t> lanes;  // what the lanes of each warp exchange
  Fiber* running = nullptr;
  std::function<void()> body;
  dim3 grid, block, block_index;
};

inline Machine machine;

inline void pause(Wait wait) {
  Fiber* self = machine.running;
  self->wait = wait;
  swapcontext(&self->context, &machine.scheduler);
}

inline void enter() {
  machine.body();
  machine.running->wait = Wait::kDone;
  swapcontext(&machine.running->context, &machine.scheduler);
}

inline int thread() { return static_cast<int>(machine.running - machine.fibers.data()); }

// Lets those go on for whom everybody they wait for has arrived; false if nobody can.
inline bool release(std::size_t begin, std::size_t end, Wait at) {
  bool any = false;
  for (std::size_t i = begin; i < end; ++i) {
    const Wait w = machine.fibers[i].wait;
    if (w != at && w != Wait::kDone) return false;
    any |= w == at;
  }
  for (std::size_t i = begin; any && i < end; ++i) {
    if (machine.fibers[i].wait == at) machine.fibers[i].wait = Wait::kNone;
  }
  return any;
}

inline void run_block() {
  auto& fibers = machine.fibers;
  const std::size_t count = fibers.size();
  for (std::size_t i = 0; i < count; ++i) {
    Fiber& f = fibers[i];
    f.wait = Wait::kNone;
    const auto b = machine.block;
    f.index = dim3(i % b.x, i / b.x % b.y, i / b.x / b.y);
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = kStack;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
  }
  while (true) {
    bool moved = false;
    for (Fiber& f : fibers) {
      if (f.wait != Wait::kNone) continue;
      machine.running = &f;
      swapcontext(&machine.scheduler, &f.context);
      moved = true;
    }
    for (std::size_t w = 0; w < count; w += kWarp) {
      moved |= release(w, std::min(w + kWarp, count), Wait::kWarp);
    }
    moved |= release(0, count, Wait::kBlock);
    if (std::all_of(fibers.begin(), fibers.end(),
                    [](const Fiber& f) { return f.wait == Wait::kDone; })) {
      return;
    }
    if (!moved) {
      std::fprintf(stderr, "emulated CUDA: threads of a block wait at different barriers\n");
      std::abort();
    }
  }
}

inline void run(dim3 grid, dim3 block, std::function<void()> body) {
  const std::size_t count = std::size_t(block.x) * block.y * block.z;
  if (count == 0 || count > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
      grid.z > 65535) {
    std::fprintf(stderr, "emulated CUDA: no such launch: %u x %u x %u blocks of %zu threads\n",
                 grid.x, grid.y, grid.z, count);
    std::abort();
  }
  machine.grid = grid;
  machine.block = block;
  machine.body = std::move(body);
  machine.fibers.resize(count);
  machine.lanes.assign((count + kWarp - 1) / kWarp * kWarp, 0);
  for (Fiber& f : machine.fibers) {
    if (!f.stack) f.stack = std::make_unique<char[]>(kStack);
  }
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        machine.block_index = dim3(x, y, z);
        run_block();
      }
    }
  }
}

// Every lane of the warp gives a value and sees those of all: values[lane].
template <class T, class Use>
auto exchange(T value, const Use& use) {
  static_assert(sizeof(T) <= 8);
  const int self = thread();
  std::uint64_t* lanes = machine.lanes.data() + self / kWarp * kWarp;
  std::memcpy(&lanes[self % kWarp], &value, sizeof(T));
  pause(Wait::kWarp);
  const auto result = use([lanes](int lane) {
    T v;
    std::memcpy(&v, &lanes[lane], sizeof(T));
    return v;
  });
  pause(Wait::kWarp);
  return result;
}

inline int lane() { return thread() % kWarp; }
inline int lanes_alive() {
  const int first = thread() / kWarp * kWarp;
  return std::min<int>(kWarp, static_cast<int>(machine.fibers.size()) - first);
}

}  // namespace emulator

#define threadIdx (emulator::machine.running->index)
#define blockIdx (emulator::machine.block_index)
#define blockDim (emulator::machine.block)
#define gridDim (emulator::machine.grid)

inline void __syncthreads() { emulator::pause(emulator::Wait::kBlock); }
inline void __syncwarp(unsigned = ~0u) { emulator::pause(emulator::Wait::kWarp); }
inline void __threadfence() {}

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulator::exchange(value, [&](auto of) { return of(emulator::lane() ^ mask); });
}
template <class T>
T __shfl_down_sync(unsigned, T value, int by) {
  const int from = emulator::lane() + by;
  return emulator::exchange(value, [&](auto of) { return from < 32 ? of(from) : value; });
}
template <class T>
T __shfl_up_sync(unsigned, T value, int by) {
  const int from = emulator::lane() - by;
  return emulator::exchange(value, [&](auto of) { return from >= 0 ? of(from) : value; });
}
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return emulator::exchange(value, [&](auto of) { return of(from & 31); });
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  return emulator::exchange(vote, [&](auto of) {
    unsigned bits = 0;
    for (int l = 0; l < emulator::lanes_alive(); ++l) bits |= of(l) ? 1u << l : 0u;
    return bits;
  });
}
inline bool __any_sync(unsigned m, bool vote) { return __ballot_sync(m, vote) != 0; }
inline bool __all_sync(unsigned m, bool vote) { return __ballot_sync(m, !vote) == 0; }

template <class T>
T atomicAdd(T* at, T value) {
  const T old = *at;
  *at = old + value;
  return old;
}
template <class T>
T atomicMin(T* at, T value) {
  const T old = *at;
  if (value < old) *at = value;
  return old;
}
template <class T>
T atomicMax(T* at, T value) {
  const T old = *at;
  if (old < value) *at = value;
  return old;
}

inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
using std::isfinite;
using std::isnan;
using std::max;
using std::min;
