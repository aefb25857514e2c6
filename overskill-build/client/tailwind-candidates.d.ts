// `tailwind-candidates.js` is made by the server (src/preview/tailwind.rs): every word of the app's sources that may be a
// class.

declare const candidates: string[];
export default candidates;
