// What survives a reload: in this tab's session storage, gone when the tab is closed. Nothing is kept anywhere else.

const PREFIX = "deltaserve.";

/** Keys are kept only where nobody on the way can read the page: over https, or on this machine. */
export const keepsKeys = globalThis.isSecureContext;

export function recall(name, otherwise = "") {
  try {
    return JSON.parse(sessionStorage.getItem(PREFIX + name)) ?? otherwise;
  } catch {
    return otherwise; // switched off, or not ours
  }
}

export function keep(name, value) {
  try {
    if (value === "" || value === null) sessionStorage.removeItem(PREFIX + name);
    else sessionStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // switched off or full: the page works without
  }
}
