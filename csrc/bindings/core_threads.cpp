#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#include "rlmba/parallel.hpp"

// Threads for the CPU kernels. OpenMP's barriers wait for every thread of a team. While other
// processes are busy, some thread of a team is almost always waiting for a core, and the others
// spin until it gets one. Here a call waits only for threads that have begun a chunk, and waiting
// threads sleep.
namespace rlmba {
namespace {

struct Job {
  const std::int64_t n;
  const std::int64_t chunk;
  const std::int64_t threads;
  const Body body;
  const void* const context;
  std::atomic<std::int64_t> next{0};     // first index that no thread has taken
  std::atomic<std::int64_t> helpers{0};  // threads inside, without the caller
  // The rest is guarded by the pool's mutex.
  std::int64_t entered = 1;
  std::exception_ptr error = nullptr;
  Job* later = nullptr;

  bool open() const { return entered < threads && next.load(std::memory_order_relaxed) < n; }

  void work(std::int64_t thread) {
    for (;;) {
      const std::int64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
      if (begin >= n) return;
      body(context, begin, min_i64(begin + chunk, n), thread);
    }
  }
};

// Waits until `ready`, for at most the few microseconds that it takes to put a thread to sleep and
// wake it.
template <class Ready>
void spin(const Ready& ready) {
  for (int i = 0; i < 1000 && !ready(); ++i) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
}

class Pool {
 public:
  void run(Job& job) {
    std::unique_lock lock(mutex_);
    const std::int64_t wanted = min_i64(job.threads, chunk_count(job.n, job.chunk)) - 1;
    job.later = jobs_;
    jobs_ = &job;
    published_.fetch_add(1, std::memory_order_relaxed);
    start(wanted);
    const std::int64_t woken = min_i64(wanted, sleeping_);
    lock.unlock();
    for (std::int64_t i = 0; i < woken; ++i) wake_.notify_one();
    attempt(job, 0);
    lock.lock();
    Job** link = &jobs_;
    while (*link != &job) link = &(*link)->later;
    *link = job.later;
    if (job.helpers > 0) {
      lock.unlock();
      spin([&] { return job.helpers == 0; });
      lock.lock();
      finished_.wait(lock, [&] { return job.helpers == 0; });
    }
    if (job.error) std::rethrow_exception(job.error);
  }

 private:
  // Starts helpers until there are `wanted`, or as many as the system permits. It must not throw:
  // the job is in the list already, and the caller alone can do all of it.
  void start(std::int64_t wanted) {
    try {
      for (; helpers_ < wanted; ++helpers_) std::thread([this] { serve(); }).detach();
    } catch (const std::exception&) {  // no thread, or no memory for one
    }
  }

  // The first exception is kept, and ends the job.
  void attempt(Job& job, std::int64_t thread) {
    try {
      job.work(thread);
    } catch (...) {
      job.next = job.n;
      const std::lock_guard lock(mutex_);
      if (!job.error) job.error = std::current_exception();
    }
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      Job* job = jobs_;
      while (job != nullptr && !job->open()) job = job->later;
      if (job == nullptr) {
        await_job(lock);
        continue;
      }
      const std::int64_t thread = job->entered++;
      ++job->helpers;
      lock.unlock();
      attempt(*job, thread);
      lock.lock();
      if (--job->helpers == 0) finished_.notify_all();
    }
  }

  void await_job(std::unique_lock<std::mutex>& lock) {
    const auto seen = published_.load(std::memory_order_relaxed);
    const auto news = [&] { return published_.load(std::memory_order_relaxed) != seen; };
    lock.unlock();
    spin(news);
    lock.lock();
    ++sleeping_;
    wake_.wait(lock, news);
    --sleeping_;
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable finished_;
  std::atomic<std::uint64_t> published_{0};
  Job* jobs_ = nullptr;
  std::int64_t helpers_ = 0;
  std::int64_t sleeping_ = 0;
};

// Never destroyed, because helpers use it until the process ends. A fork copies no helpers, so the
// child begins with a new pool.
Pool& pool() {
  alignas(Pool) static unsigned char memory[sizeof(Pool)];
  static Pool* const made = [] {
    pthread_atfork(nullptr, nullptr, [] { new (memory) Pool; });
    return new (memory) Pool;
  }();
  return *made;
}

int default_threads() {
  const char* given = std::getenv("OMP_NUM_THREADS");
  const int threads = given == nullptr ? 0 : std::atoi(given);
  if (threads > 0) return threads;
#if defined(__linux__)
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
#endif
  const unsigned cores_of_machine = std::thread::hardware_concurrency();
  return cores_of_machine > 0 ? static_cast<int>(cores_of_machine) : 1;
}

std::atomic<int>& thread_limit() {
  static std::atomic<int> limit{default_threads()};
  return limit;
}

}  // namespace

int max_threads() { return thread_limit().load(std::memory_order_relaxed); }

void set_max_threads(int threads) { thread_limit().store(threads, std::memory_order_relaxed); }

double wall_seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

void run_chunks(std::int64_t n, std::int64_t chunk, std::int64_t threads, Body body,
                const void* context) {
  Job job{n, chunk, threads, body, context};
  if (threads > 1 && n > chunk) {
    pool().run(job);
  } else {
    job.work(0);
  }
}

}  // namespace rlmba
