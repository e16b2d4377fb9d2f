// As much of a browser as Mermaid's parser looks for when it is loaded. Nothing is drawn: no call of these does anything.
globalThis.window = globalThis.self = globalThis;
globalThis.console = { log() {}, warn() {}, error() {}, info() {}, debug() {}, trace() {} };
globalThis.navigator = { userAgent: "" };
globalThis.location = { href: "", protocol: "https:" };
globalThis.setTimeout = (work) => { Promise.resolve().then(work); return 0; };
globalThis.clearTimeout = () => {};
globalThis.addEventListener = () => {};
globalThis.structuredClone = (value) => JSON.parse(JSON.stringify(value));
globalThis.TextEncoder = class {
  encode(text) { return Uint8Array.from(unescape(encodeURIComponent(text)), (character) => character.charCodeAt(0)); }
};
globalThis.TextDecoder = class {
  decode(bytes) { return decodeURIComponent(escape(String.fromCharCode(...bytes))); }
};
class Nothing {
  constructor(name) {
    Object.assign(this, {
      nodeName: name, tagName: name, nodeType: 1, childNodes: [], attributes: [], style: {}, innerHTML: "", textContent: "",
      content: { ownerDocument: null }, firstChild: null, parentNode: null, nextSibling: null,
    });
  }
  get ownerDocument() { return document; }
  appendChild(child) { return child; }
  insertBefore(child) { return child; }
  removeChild(child) { return child; }
  cloneNode() { return new Nothing(this.nodeName); }
  getAttribute() { return null; }
  querySelector() { return null; }
  querySelectorAll() { return []; }
  getElementsByTagName() { return []; }
  hasChildNodes() { return false; }
  contains() { return false; }
  matches() { return false; }
  remove() {}
  setAttribute() {}
  removeAttribute() {}
  addEventListener() {}
  removeEventListener() {}
}
for (const name of ["Element", "HTMLElement", "Node", "SVGElement", "DocumentFragment", "HTMLTemplateElement", "HTMLFormElement"]) {
  globalThis[name] = Nothing;
}
globalThis.NodeFilter = {};
globalThis.NamedNodeMap = class {};
globalThis.DOMParser = class { parseFromString() { return document; } };
globalThis.document = Object.assign(new Nothing("#document"), {
  nodeType: 9, readyState: "complete", location: globalThis.location, currentScript: null,
  body: new Nothing("body"), head: new Nothing("head"), documentElement: new Nothing("html"),
  createElement: (name) => new Nothing(name), createElementNS: (_, name) => new Nothing(name),
  createTextNode: () => new Nothing("#text"), createDocumentFragment: () => new Nothing("#document-fragment"),
  createNodeIterator: () => ({ nextNode: () => null }), importNode: (node) => node, getElementById: () => null,
  implementation: { createHTMLDocument: () => globalThis.document },
});
