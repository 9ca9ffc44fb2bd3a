// Finding and making elements of the page.

export const $ = (id) => document.getElementById(id);

export function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}
