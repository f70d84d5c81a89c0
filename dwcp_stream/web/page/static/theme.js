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

const probe = document.createElement("i");
probe.hidden = true;

/** The value of a colour of page.css in the present theme, as a canvas takes it. */
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
