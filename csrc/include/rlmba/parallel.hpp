#pragma once

#include <cstdint>

#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
#include "rlmba/scratch.hpp"
#endif

namespace rlmba {

// Rows per partial sum of a reduction; one thread then adds the partial sums in order. It is fixed
// so that sums do not depend on the number of threads.
inline constexpr std::int64_t kReductionRows = 4096;

// Numbers per chunk of a loop that does little work for each number. Taking a chunk costs little
// compared with this many, and even a short loop still has several chunks.
inline constexpr std::int64_t kChunkValues = std::int64_t{1} << 15;

RLMBA_INLINE std::int64_t chunk_count(std::int64_t n, std::int64_t chunk) {
  return (n + chunk - 1) / chunk;
}

RLMBA_INLINE std::int64_t min_i64(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

RLMBA_INLINE std::int64_t max_i64(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

// The number of rows with `cols` columns that have about kChunkValues numbers together.
RLMBA_INLINE std::int64_t chunk_rows(std::int64_t cols) {
  return max_i64(1, kChunkValues / max_i64(1, cols));
}

// The most threads that a call uses: OMP_NUM_THREADS, otherwise one per available core.
int max_threads();
void set_max_threads(int threads);

// Seconds of a clock that never goes back.
double wall_seconds();

// Calls body(context, begin, end, thread) for [0, chunk), [chunk, 2 * chunk) ... up to n. Each
// thread takes the next chunk when it has finished one, so no thread waits while there is work. The
// calling thread is number 0; helpers that the system does not run in time are not waited for. An
// exception of a body ends the loop and is thrown to the caller. Calls from several threads share
// the helpers.
using Body = void (*)(const void* context, std::int64_t begin, std::int64_t end,
                      std::int64_t thread);
void run_chunks(std::int64_t n, std::int64_t chunk, std::int64_t threads, Body body,
                const void* context);

// Lowers `least` to `value`; several threads may do so at once.
RLMBA_INLINE void lower(std::int64_t& least, std::int64_t value) {
  std::int64_t old = __atomic_load_n(&least, __ATOMIC_RELAXED);
  while (value < old && !__atomic_compare_exchange_n(&least, &old, value, true, __ATOMIC_RELAXED,
                                                     __ATOMIC_RELAXED)) {
  }
}

#ifdef RLMBA_ISA
namespace RLMBA_ISA {

template <class F>
void call(const void* body, std::int64_t begin, std::int64_t end, std::int64_t thread) {
  (*static_cast<const F*>(body))(begin, end, thread);
}

// Calls body(begin, end, thread) in parallel for chunks of [0, n); thread < threads.
template <class F>
void parallel_for(std::int64_t n, std::int64_t chunk, std::int64_t threads, const F& body) {
  run_chunks(n, chunk, threads, call<F>, &body);
}

// Calls body(begin, end) in parallel for chunks of [0, n).
template <class F>
void parallel_for(std::int64_t n, std::int64_t chunk, const F& body) {
  parallel_for(n, chunk, max_threads(),
               [&](std::int64_t begin, std::int64_t end, std::int64_t) { body(begin, end); });
}

// Combines the results of body(begin, end) for chunks of [0, n), in their order, starting with
// `start`: result = merge(result, of a chunk).
template <class R, class F, class Merge>
R parallel_reduce(std::int64_t n, std::int64_t chunk, R start, const F& body, const Merge& merge) {
  Scratch<R> results(chunk_count(n, chunk));
  parallel_for(n, chunk, [&](std::int64_t begin, std::int64_t end) {
    results[begin / chunk] = body(begin, end);
  });
  for (std::int64_t c = 0; c < chunk_count(n, chunk); ++c) start = merge(start, results[c]);
  return start;
}

}  // namespace RLMBA_ISA
#endif

}  // namespace rlmba
