#pragma once

#include <cstdint>

#include "rlmba/scratch.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Candidates by decreasing bound and, where bounds are equal, by increasing position.
class BoundHeap {
 public:
  BoundHeap(const double* bounds, const std::int64_t* positions, std::int64_t count)
      : bounds_(bounds), positions_(positions), entries_(count), size_(count) {
    for (std::int64_t i = 0; i < count; ++i) entries_[i] = static_cast<std::int32_t>(i);
  }

  // Restores the order after any change of the bounds.
  void rebuild() {
    for (std::int64_t i = size_ / 2; i-- > 0;) sink(i);
  }
  bool empty() const { return size_ == 0; }
  std::int64_t top() const { return entries_[0]; }

  std::int64_t pop() {
    const std::int32_t top = entries_[0];
    entries_[0] = entries_[--size_];
    sink(0);
    return top;
  }

  void push(std::int64_t candidate) {
    std::int64_t i = size_++;
    for (; i > 0 && before(candidate, entries_[(i - 1) / 2]); i = (i - 1) / 2) {
      entries_[i] = entries_[(i - 1) / 2];
    }
    entries_[i] = static_cast<std::int32_t>(candidate);
  }

  // Restores the order after the top's bound was lowered.
  void lowered_top() { sink(0); }

 private:
  bool before(std::int64_t a, std::int64_t b) const {
    return bounds_[a] > bounds_[b] || (bounds_[a] == bounds_[b] && positions_[a] < positions_[b]);
  }

  void sink(std::int64_t i) {
    if (i >= size_) return;
    const std::int32_t moved = entries_[i];
    while (2 * i + 1 < size_) {
      std::int64_t child = 2 * i + 1;
      if (child + 1 < size_ && before(entries_[child + 1], entries_[child])) ++child;
      if (!before(entries_[child], moved)) break;
      entries_[i] = entries_[child];
      i = child;
    }
    entries_[i] = moved;
  }

  const double* bounds_;
  const std::int64_t* positions_;
  Scratch<std::int32_t> entries_;
  std::int64_t size_;
};

}  // namespace rlmba::RLMBA_ISA
#endif
