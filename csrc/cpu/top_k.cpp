#include "rlmba/top_k.hpp"

#include <algorithm>

#include "rlmba/parallel.hpp"
#include "rlmba/scratch.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

template <class T>
struct Entry {
  T value;
  std::int64_t position;
};

template <class T>
struct Before {
  bool operator()(const Entry<T>& a, const Entry<T>& b) const {
    return a.value > b.value || (a.value == b.value && a.position < b.position);
  }
};

constexpr std::int64_t kBlock = 256;

// Keeps the best k of [begin, end) in `pool` (room for 2 k + kBlock) and returns how many it kept.
// Only values above the k-th best so far are looked at one by one; a block with none is skipped
// after one vectorized comparison. Positions come in rising order, so a later tie never displaces.
template <class T>
std::int64_t scan(const T* values, std::int64_t begin, std::int64_t end, std::int64_t k,
                  Entry<T>* pool, std::int64_t* bad) {
  std::int64_t kept = 0;
  bool full = false;
  T floor{};
  const auto prune = [&] {
    std::nth_element(pool, pool + (k - 1), pool + kept, Before<T>{});
    kept = k;
    floor = pool[k - 1].value;
    full = true;
  };
  for (std::int64_t start = begin; start < end; start += kBlock) {
    const std::int64_t stop = min_i64(start + kBlock, end);
    int hit = 0;
    int broken = 0;
    for (std::int64_t i = start; i < stop; ++i) {
      broken |= !(values[i] - values[i] == T(0));
      hit |= values[i] > floor;
    }
    if (broken) {
      *bad = start;
      while (values[*bad] - values[*bad] == T(0)) ++*bad;
      return 0;
    }
    if (full && !hit) continue;
    for (std::int64_t i = start; i < stop; ++i) {
      if (!full || values[i] > floor) pool[kept++] = {values[i], i};
    }
    if (kept >= 2 * k) prune();
  }
  if (kept > k) prune();
  return kept;
}

template <class T>
std::int64_t top_k_impl(VectorView<const T> v, std::int64_t k, std::int64_t* indices) {
  const std::int64_t room = 2 * k + kBlock;
  // A slice shorter than a few k would keep most of itself: more threads would only merge more.
  const std::int64_t slices = max_i64(1, min_i64(omp_get_max_threads(), v.size / (4 * room)));
  const std::int64_t length = chunk_count(v.size, slices);
  Scratch<Entry<T>> pools(slices * room);
  Scratch<std::int64_t> kept(slices);
  Scratch<std::int64_t> bad(slices);
#pragma omp parallel for schedule(static, 1) if (slices > 1)
  for (std::int64_t s = 0; s < slices; ++s) {
    bad[s] = -1;
    kept[s] = 0;
    const std::int64_t begin = s * length;
    const std::int64_t end = min_i64(begin + length, v.size);
    if (begin < end) kept[s] = scan(v.data, begin, end, max_i64(k, 1), &pools[s * room], &bad[s]);
  }
  std::int64_t total = 0;
  for (std::int64_t s = 0; s < slices; ++s) {
    if (bad[s] >= 0) return bad[s];
    for (std::int64_t i = 0; i < kept[s]; ++i) pools[total++] = pools[s * room + i];
  }
  if (total > k)
    std::nth_element(pools.data(), pools.data() + k, pools.data() + total, Before<T>{});
  std::sort(pools.data(), pools.data() + k, Before<T>{});
  for (std::int64_t i = 0; i < k; ++i) indices[i] = pools[i].position;
  return -1;
}

}  // namespace

std::int64_t top_k(VectorView<const float> values, std::int64_t k, std::int64_t* indices) {
  return top_k_impl(values, k, indices);
}

std::int64_t top_k(VectorView<const double> values, std::int64_t k, std::int64_t* indices) {
  return top_k_impl(values, k, indices);
}

}  // namespace rlmba::RLMBA_ISA
