#include "core.hpp"
#include "rlmba/top_k.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t top_k(const Array<T>& values, Array<std::int64_t>& indices) {
  const auto view = vector_view(values);
  const std::int64_t k = indices.shape(0);
  if (k > view.size) throw std::invalid_argument("k exceeds the number of values");
  std::int64_t* out = indices.mutable_data();
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(top_k, view, k, out);
}

}  // namespace

void register_top_k(py::module_& m) {
  m.def("top_k", &top_k<float>, py::arg("values").noconvert(), py::arg("indices").noconvert());
  m.def("top_k", &top_k<double>, py::arg("values").noconvert(), py::arg("indices").noconvert());
}

}  // namespace rlmba::bindings
