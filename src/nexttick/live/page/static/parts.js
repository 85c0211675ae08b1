// Parts of the page, made and kept.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

// Keeps the parts that are there, so that nothing flickers and no focus is lost.
export function fill(place, count, name, set) {
  while (place.children.length < count) place.append(element(name));
  while (place.children.length > count) place.lastChild.remove();
  for (let i = 0; i < count; i++) set(place.children[i], i);
}

export function fillSvg(svg, classes, paths) {
  while (svg.children.length < paths.length) {
    svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  }
  paths.forEach((path, i) => {
    svg.children[i].setAttribute("class", classes[i]);
    svg.children[i].setAttribute("d", path);
  });
}
