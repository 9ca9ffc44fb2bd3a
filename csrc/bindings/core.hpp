#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>

#include "rlmba/view.hpp"

namespace py = pybind11;

namespace rlmba::bindings {

// kernels/*/__init__.py checks the users' arguments; these checks only ensure memory safety.
template <class T>
using Array = py::array_t<T, 0>;

template <class T>
void require_aligned(const Array<T>& a) {
  if (reinterpret_cast<std::uintptr_t>(a.data()) % alignof(T) != 0) {
    throw std::invalid_argument("expected an aligned array");
  }
}

template <class T>
VectorView<const T> vector_view(const Array<T>& a) {
  require_aligned(a);
  if (a.ndim() != 1 || (a.size() > 1 && a.strides(0) != static_cast<py::ssize_t>(sizeof(T)))) {
    throw std::invalid_argument("expected a contiguous 1-D array");
  }
  return {a.data(), a.shape(0)};
}

template <class T>
MatrixView<const T> matrix_view(const Array<T>& a) {
  require_aligned(a);
  // NumPy may give an empty array any strides.
  if (a.ndim() == 2 && a.size() == 0) return {a.data(), a.shape(0), a.shape(1), a.shape(1)};
  if (a.ndim() != 2 || (a.shape(1) > 1 && a.strides(1) != static_cast<py::ssize_t>(sizeof(T))) ||
      a.strides(0) % static_cast<py::ssize_t>(sizeof(T)) != 0) {
    throw std::invalid_argument("expected a 2-D array with contiguous rows");
  }
  return {a.data(), a.shape(0), a.shape(1), a.strides(0) / static_cast<py::ssize_t>(sizeof(T))};
}

// One register function per operation, in core_<op>.cpp.
void register_bald_score(py::module_& m);
void register_deepfool_distance(py::module_& m);
void register_dirichlet_variance(py::module_& m);
void register_fused_score(py::module_& m);
void register_gradient_kmeans_plusplus(py::module_& m);
void register_gradient_residuals(py::module_& m);
void register_graph_propagate(py::module_& m);
void register_herding(py::module_& m);
void register_k_center(py::module_& m);
void register_kmeans(py::module_& m);
void register_min_distance(py::module_& m);
void register_minmax(py::module_& m);
void register_plackett_luce(py::module_& m);
void register_sequential_gcn(py::module_& m);
void register_shapley_contributions(py::module_& m);
void register_top_k(py::module_& m);

}  // namespace rlmba::bindings
