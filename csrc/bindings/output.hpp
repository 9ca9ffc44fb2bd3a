#pragma once

#include "core.hpp"

namespace rlmba::bindings {

template <class T>
T* output(Array<T>& a, std::int64_t size) {
  if (!(a.flags() & py::array::c_style) || a.size() != size) {
    throw std::invalid_argument("expected a contiguous output of the right size");
  }
  require_aligned(a);
  return a.mutable_data();
}

}  // namespace rlmba::bindings
