// The few things that the page needs of the DOM.
export const element = (id) => document.getElementById(id);

/** Changes a text only if it is another: a screen reader reads each change. */
export function say(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

/** `make('b', { className: 'name' }, 'Ana')`. Texts are never read as HTML. */
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A circle with the first letter of a name, always of the same colour. */
export function avatar(name) {
  const hue = [...name].reduce((sum, letter) => sum + letter.codePointAt(0) * 37, 0) % 360;
  const circle = make('span', { className: 'avatar', ariaHidden: 'true' }, [...name][0] ?? '?');
  circle.style.setProperty('--hue', hue);
  return circle;
}

/** Hours and minutes, of an ISO instant. */
export function clock(instant) {
  return make('time', { dateTime: instant }, new Date(instant).toTimeString().slice(0, 5));
}
