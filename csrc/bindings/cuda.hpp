#pragma once

#include <pybind11/pybind11.h>

#include "rlmba/cuda/matrix.hpp"

namespace py = pybind11;

namespace rlmba::bindings {

// One register function an op, in cuda_<op>.cpp. kernels/*/on_device.py checks what users pass;
// memory is given as addresses that the caller keeps alive, on the device that is current.
void register_dirichlet_variance(py::module_& m);
void register_fused_score(py::module_& m);
void register_min_distance(py::module_& m);
void register_minmax(py::module_& m);
void register_top_k(py::module_& m);

}  // namespace rlmba::bindings
