/**
 * The report: a page whose data is in the file.
 */
import { openPage } from "./page.js";

openPage(JSON.parse(document.getElementById("data")?.textContent ?? ""));
