#include "rlmba/top_k.hpp"

#include <algorithm>
#include <bit>

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

// Keeps the best k of [begin, end) in `pool` (space for 2 k + kBlock) and returns how many it kept.
// Only values above the k-th best so far are examined one by one; a block without any is skipped
// after one vectorized comparison. Positions are examined in increasing order, so a later tie never
// replaces an earlier value.
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

// A float and its position as one integer key. Smaller keys have larger values, then lower
// positions. The struct makes the standard algorithms below specific to the instruction set
// (isa.hpp).
struct Key {
  std::uint64_t bits;
};

struct Below {
  bool operator()(Key a, Key b) const { return a.bits < b.bits; }
};

constexpr int kDigit = 11;
constexpr std::int64_t kBins = std::int64_t{1} << kDigit;

RLMBA_INLINE Key key_of(float value, std::int64_t position) {
  const auto u = std::bit_cast<std::uint32_t>(value + 0.0f);  // -0 becomes +0, its equal
  const std::uint32_t rising = u ^ ((u >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
  return {(std::uint64_t{~rising} << 32) | static_cast<std::uint64_t>(position)};
}

// Sorts keys[0, n) by least significant digits first; `spare` has space for n. Digits that all keys
// share are skipped, which are most of the digits of positions.
void radix_sort(Key* keys, Key* spare, std::int64_t n) {
  Scratch<std::int64_t> next(kBins);
  Key* from = keys;
  Key* to = spare;
  for (int shift = 0; shift < 64; shift += kDigit) {
    for (std::int64_t b = 0; b < kBins; ++b) next[b] = 0;
    for (std::int64_t i = 0; i < n; ++i) ++next[(from[i].bits >> shift) % kBins];
    if (n == 0 || next[(from[0].bits >> shift) % kBins] == n) continue;
    std::int64_t sum = 0;
    for (std::int64_t b = 0; b < kBins; ++b) {
      const std::int64_t count = next[b];
      next[b] = sum;
      sum += count;
    }
    for (std::int64_t i = 0; i < n; ++i) to[next[(from[i].bits >> shift) % kBins]++] = from[i];
    Key* const swap = from;
    from = to;
    to = swap;
  }
  if (from != keys) {
    for (std::int64_t i = 0; i < n; ++i) keys[i] = from[i];
  }
}

// For a k that is a large share of the values. A histogram of the keys' highest digit shows which
// bin contains the k-th key. Only that bin is partitioned, and the k smallest keys are radix
// sorted.
std::int64_t top_k_by_histogram(VectorView<const float> v, std::int64_t k, std::int64_t* indices) {
  constexpr int kTop = 64 - kDigit;
  Scratch<Key> keys(v.size);
  Scratch<std::int64_t> count(kBins);
  for (std::int64_t b = 0; b < kBins; ++b) count[b] = 0;
  int broken = 0;
  for (std::int64_t i = 0; i < v.size; ++i) {
    broken |= !(v.data[i] - v.data[i] == 0.0f);
    keys[i] = key_of(v.data[i], i);
    ++count[keys[i].bits >> kTop];
  }
  if (broken) {
    std::int64_t bad = 0;
    while (v.data[bad] - v.data[bad] == 0.0f) ++bad;
    return bad;
  }
  std::int64_t bin = 0;
  std::int64_t before = 0;
  while (before + count[bin] < k) before += count[bin++];
  Scratch<Key> kept(before + count[bin]);
  Scratch<Key> spare(k);
  std::int64_t sure = 0;
  std::int64_t border = before;
  for (std::int64_t i = 0; i < v.size; ++i) {
    const auto digit = static_cast<std::int64_t>(keys[i].bits >> kTop);
    if (digit < bin) kept[sure++] = keys[i];
    if (digit == bin) kept[border++] = keys[i];
  }
  std::nth_element(kept.data() + before, kept.data() + k, kept.data() + border, Below{});
  radix_sort(kept.data(), spare.data(), k);
  for (std::int64_t i = 0; i < k; ++i) {
    indices[i] = static_cast<std::int64_t>(kept[i].bits & 0xFFFFFFFFu);
  }
  return -1;
}

template <class T>
std::int64_t top_k_impl(VectorView<const T> v, std::int64_t k, std::int64_t* indices) {
  const std::int64_t room = 2 * k + kBlock;
  // A slice shorter than a few k would keep most of its values, so more threads would only merge
  // more.
  const std::int64_t slices = max_i64(1, min_i64(max_threads(), v.size / (4 * room)));
  const std::int64_t length = chunk_count(v.size, slices);
  Scratch<Entry<T>> pools(slices * room);
  Scratch<std::int64_t> kept(slices);
  Scratch<std::int64_t> bad(slices);
  for (std::int64_t s = 0; s < slices; ++s) {
    bad[s] = -1;
    kept[s] = 0;
  }
  parallel_for(v.size, length, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t s = begin / length;
    kept[s] = scan(v.data, begin, end, max_i64(k, 1), &pools[s * room], &bad[s]);
  });
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
  if (k > 0 && values.size / 64 < k && values.size < (std::int64_t{1} << 32)) {
    return top_k_by_histogram(values, k, indices);
  }
  return top_k_impl(values, k, indices);
}

std::int64_t top_k(VectorView<const double> values, std::int64_t k, std::int64_t* indices) {
  return top_k_impl(values, k, indices);
}

}  // namespace rlmba::RLMBA_ISA
