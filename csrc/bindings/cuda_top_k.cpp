#include "../../kernels/top_k/top_k.cuh"
#include "cuda.hpp"

namespace rlmba::bindings {

void register_top_k(py::module_& m) {
  m.def("top_k_scratch", &cuda::top_k_scratch);
  m.def("top_k", &cuda::top_k, py::call_guard<py::gil_scoped_release>());
}

}  // namespace rlmba::bindings
