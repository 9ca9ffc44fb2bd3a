#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#include "rlmba/view.hpp"

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

// Uninitialized, 64-byte aligned memory, owned by one instruction set's code (see isa.hpp).
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t count) {
    const std::size_t bytes =
        (static_cast<std::size_t>(count > 0 ? count : 1) * sizeof(T) + 63) / 64 * 64;
    data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return data_; }
  T& operator[](std::int64_t i) const { return data_[i]; }

 private:
  T* data_;
};

}  // namespace rlmba::RLMBA_ISA
#endif
