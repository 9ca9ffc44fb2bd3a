#include "core.hpp"
#include "output.hpp"
#include "rlmba/plackett_luce.hpp"

namespace rlmba::bindings {
namespace {

std::int64_t draw(const Array<double>& logits, std::uint64_t seed, Array<std::int64_t>& indices) {
  const auto z = vector_view(logits);
  const std::int64_t n = indices.size();
  if (n > z.size) throw std::invalid_argument("n exceeds the number of logits");
  std::int64_t* out = output(indices, n);
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(plackett_luce_draw, z, n, seed, out);
}

double log_prob(const Array<double>& logits, const Array<std::int64_t>& indices,
                Array<double>& gradient) {
  const auto z = vector_view(logits);
  const auto order = vector_view(indices);
  for (std::int64_t j = 0; j < order.size; ++j) {
    if (order.data[j] < 0 || order.data[j] >= z.size) {
      throw std::invalid_argument("index out of range");
    }
  }
  double* out = output(gradient, z.size);
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(plackett_luce_log_prob, z, order, out);
}

}  // namespace

void register_plackett_luce(py::module_& m) {
  m.def("plackett_luce_draw", &draw, py::arg("logits").noconvert(), py::arg("seed"),
        py::arg("indices").noconvert());
  m.def("plackett_luce_log_prob", &log_prob, py::arg("logits").noconvert(),
        py::arg("indices").noconvert(), py::arg("gradient").noconvert());
}

}  // namespace rlmba::bindings
