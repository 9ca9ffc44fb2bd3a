// Checks of rlmba/parallel.hpp that calls of the CPU kernels from Python cannot make. Each prints
// its name if it fails. tests/kernels/test_threads.py compiles and runs this program.

#define RLMBA_ISA generic

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "rlmba/parallel.hpp"

using rlmba::generic::parallel_for;
using rlmba::generic::parallel_reduce;
using Int = std::int64_t;

namespace {

std::atomic<bool> out_of_memory{false};

}  // namespace

void* operator new(std::size_t bytes) {
  void* memory = out_of_memory ? nullptr : std::malloc(bytes > 0 ? bytes : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

int failures = 0;

void check(bool good, const char* name) {
  if (good) return;
  std::printf("%s\n", name);
  ++failures;
}

// Every index once, in chunks that begin at multiples of their size, on the threads asked for.
bool covers(Int n, Int chunk, Int threads) {
  std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
  std::atomic<bool> good{true};
  parallel_for(n, chunk, threads, [&](Int begin, Int end, Int thread) {
    if (begin % chunk != 0 || end - begin > chunk || thread < 0 || thread >= threads) good = false;
    for (Int i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
  });
  for (const auto& s : seen) good = good && s == 1;
  return good;
}

// Before any helper is started: the caller does all chunks where there is no memory for a thread.
bool works_without_helpers() {
  std::atomic<Int> sum{0};
  out_of_memory = true;
  try {
    parallel_for(100, 1, 4, [&](Int begin, Int, Int) { sum += begin; });
  } catch (const std::bad_alloc&) {
  }
  out_of_memory = false;
  return sum == 4950;
}

bool throws() {
  std::atomic<int> after{0};
  try {
    parallel_for(20'000, 1, 4, [&](Int begin, Int, Int) {
      if (begin == 10) throw std::runtime_error("ten");
      // A thread that throws may wait for a core meanwhile.
      if (begin > 10) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (begin > 18'000) ++after;
    });
  } catch (const std::runtime_error& error) {
    return std::string(error.what()) == "ten" && after == 0;
  }
  return false;
}

bool nests() {
  std::atomic<Int> sum{0};
  parallel_for(20, 1, 4, [&](Int i, Int, Int) {
    parallel_for(50, 3, 4, [&](Int begin, Int end, Int) { sum += (end - begin) * i; });
  });
  return sum == 50 * 190;
}

bool serves_many_callers() {
  std::atomic<bool> good{true};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) good = good && covers(300, 7, 3);
    });
  }
  for (auto& caller : callers) caller.join();
  return good;
}

bool works_after_a_fork() {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(covers(1'000, 10, 3) ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  return status == 0 && covers(1'000, 10, 3);
}

bool sums_in_order() {
  const auto sum = [](Int begin, Int end) {
    double s = 0;
    for (Int i = begin; i < end; ++i) s += 1.0 / static_cast<double>(i + 1);
    return s;
  };
  const auto add = [](double a, double b) { return a + b; };
  const double expected = parallel_reduce(100'000, 1'000, 0.0, sum, add);
  for (int threads = 1; threads < 6; ++threads) {
    rlmba::set_max_threads(threads);
    if (parallel_reduce(100'000, 1'000, 0.0, sum, add) != expected) return false;
  }
  return true;
}

}  // namespace

int main() {
  check(works_without_helpers(), "no memory for a thread");
  for (const Int n : {0, 1, 7, 1'000}) {
    for (const Int threads : {1, 2, 5}) check(covers(n, 7, threads), "each index once");
  }
  check(throws(), "an exception ends the loop and reaches the caller");
  check(covers(1'000, 3, 4), "after an exception");
  check(nests(), "a parallel loop within another");
  check(serves_many_callers(), "several callers at once");
  check(works_after_a_fork(), "a child of fork");
  check(sums_in_order(), "the same sum with any number of threads");
  return failures;
}
