#include "core.hpp"

#include "output.hpp"
#include "rlmba/bald_score.hpp"

namespace rlmba::bindings {
namespace {

template <class T>
std::int64_t bald_score(const Array<T>& passes, bool logits, Array<double>& scores) {
  constexpr auto item = static_cast<py::ssize_t>(sizeof(T));
  if (passes.ndim() != 3 || passes.shape(0) < 1 || passes.shape(2) < 1) {
    throw std::invalid_argument("expected a 3-D array with a pass and a class");
  }
  // NumPy may give an empty array any strides.
  if (passes.size() > 0 && ((passes.shape(2) > 1 && passes.strides(2) != item) ||
                            passes.strides(0) % item != 0 || passes.strides(1) % item != 0)) {
    throw std::invalid_argument("expected contiguous rows");
  }
  require_aligned(passes);
  const PassesView<T> view{passes.data(),   passes.shape(0),          passes.shape(1),
                           passes.shape(2), passes.strides(0) / item, passes.strides(1) / item};
  double* out = output(scores, view.rows);
  py::gil_scoped_release release;
  return RLMBA_DISPATCH(bald_score, view, logits, out);
}

}  // namespace

void register_bald_score(py::module_& m) {
  m.def("bald_score", &bald_score<float>, py::arg("passes").noconvert(), py::arg("logits"),
        py::arg("scores").noconvert());
  m.def("bald_score", &bald_score<double>, py::arg("passes").noconvert(), py::arg("logits"),
        py::arg("scores").noconvert());
}

}  // namespace rlmba::bindings
