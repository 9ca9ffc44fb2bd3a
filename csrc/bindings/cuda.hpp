#pragma once

#include <pybind11/pybind11.h>

#include "rlmba/cuda/matrix.hpp"

namespace py = pybind11;

namespace rlmba::bindings {

// One register function per operation, in cuda_<op>.cpp. kernels/*/on_device.py checks the users'
// arguments. Memory is passed as addresses on the current device, which the caller keeps alive.
void register_dirichlet_variance(py::module_& m);
void register_fused_score(py::module_& m);
void register_min_distance(py::module_& m);
void register_minmax(py::module_& m);
void register_top_k(py::module_& m);

}  // namespace rlmba::bindings
