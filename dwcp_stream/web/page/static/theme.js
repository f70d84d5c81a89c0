// Dark, light, or what the system says; the choice is kept in this browser.

const NAMES = { auto: "Theme: system", dark: "Theme: dark", light: "Theme: light" };
const KEY = "dwcp-theme";

function stored() {
  try {
    return localStorage.getItem(KEY) ?? "auto";
  } catch {
    return "auto";
  }
}

/** Let a button switch themes; `changed` is called after each change, also of the system's. */
export function themeButton(button, changed) {
  let theme = stored();
  const apply = () => {
    document.documentElement.dataset.theme = theme;
    button.textContent = NAMES[theme];
    changed();
  };
  button.addEventListener("click", () => {
    const names = Object.keys(NAMES);
    theme = names[(names.indexOf(theme) + 1) % names.length];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // a browser that keeps nothing still shows it
    }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  apply();
}

/** The value of a colour of page.css in the present theme. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
