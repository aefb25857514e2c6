import axios from "axios";
import classNames from "classnames";
import bindClassNames from "classnames/bind";
import cronstrue, { toString as describeCron } from "cronstrue";
import dayjs from "dayjs";
import relativeTime from "dayjs/plugin/relativeTime";
import { decodeHTML, encodeHTML } from "entities";
import invariant from "invariant";
import _, { chunk, sortBy } from "lodash";
import * as lodash from "lodash";
import debounce from "lodash/debounce";
import PropTypes, { checkPropTypes } from "prop-types";
import * as qs from "qs";
import * as React from "react";
import { useState } from "react";
import ReactDOM from "react-dom";
import uuid, { v4 } from "uuid";
import uuidv5 from "uuid/v5";
import { capitalize, htmlEntities, kebabCase, pluralize } from "./text";

export interface Check {
  /** The library; also the row's `data-testid`. */
  library: string;
  /** What is special about how it is published, or how it is imported here. */
  about: string;
  expected: string;
  run: () => string | Promise<string>;
}

dayjs.extend(relativeTime);

export const checks: Check[] = [
  {
    library: "react",
    about: "module.exports chosen by NODE_ENV; namespace and named import are one copy",
    expected: "18.3.1, one copy, function",
    run: () =>
      [React.version, React.useState === useState ? "one copy" : "two copies", typeof ReactDOM.createPortal].join(", "),
  },
  {
    library: "lodash",
    about: "default, named and namespace import; a file of the package",
    expected: "[[1,2],[3]] 1,2,3 6 6 function",
    run: () =>
      [JSON.stringify(chunk([1, 2, 3], 2)), sortBy([3, 1, 2]), _.sum([1, 2, 3]), lodash.sum([1, 2, 3]), typeof debounce].join(
        " ",
      ),
  },
  {
    library: "lodash-reexport",
    about: "export { … } from a CommonJS package",
    expected: "Tea kettle tea-kettle",
    run: () => `${capitalize("TEA KETTLE")} ${kebabCase("teaKettle")}`,
  },
  {
    library: "dayjs",
    about: "UMD, minified; a plugin by its path",
    expected: "9 Mar 2026, 2 days ago",
    run: () => `${dayjs("2026-03-09").format("D MMM YYYY")}, ${dayjs("2026-03-09").from("2026-03-11")}`,
  },
  {
    library: "prop-types",
    about: "default and named; another file in production",
    expected: "function function undefined",
    run: () =>
      [
        typeof PropTypes.string.isRequired,
        typeof PropTypes.shape({}),
        checkPropTypes({ name: PropTypes.string.isRequired }, { name: "Ada" }, "prop", "Check"),
      ]
        .map(String)
        .join(" "),
  },
  {
    library: "classnames",
    about: "module.exports with a default on it; exports map; classnames/bind",
    expected: "a c | x1 y1",
    run: () => `${classNames("a", { b: false, c: true })} | ${bindClassNames.bind({ x: "x1", y: "y1" })("x", "y")}`,
  },
  {
    library: "uuid",
    about: "version 3; a browser map swaps the node:crypto files",
    expected: "cfbff0d1-9375-5685-968c-48ce8b15ae17 4 4",
    run: () => [uuidv5("example.com", uuidv5.DNS), v4().charAt(14), uuid.v4().charAt(14)].join(" "),
  },
  {
    library: "axios",
    about: "a browser map swaps the HTTP adapter for XMLHttpRequest",
    expected: "200 Hello from a file",
    run: async () => {
      const response = await axios.get<{ greeting: string }>("/hello.json");
      return `${response.status} ${response.data.greeting}`;
    },
  },
  {
    library: "ms",
    about: "module.exports = function; loaded with import()",
    expected: "172800000 1m",
    run: async () => {
      const { default: ms } = await import("ms");
      return `${ms("2 days")} ${ms(60_000)}`;
    },
  },
  {
    library: "qs",
    about: "namespace import; a dependency with a false in its browser map",
    expected: "a%5Bb%5D=1 {\"c\":[\"2\",\"3\"]}",
    run: () => `${qs.stringify({ a: { b: 1 } })} ${JSON.stringify(qs.parse("c[]=2&c[]=3"))}`,
  },
  {
    library: "cronstrue",
    about: "UMD with __esModule, a default and a name",
    expected: "Every 5 minutes | At 09:30 AM",
    run: () => `${cronstrue.toString("*/5 * * * *")} | ${describeCron("30 9 * * *")}`,
  },
  {
    library: "entities",
    about: "__esModule with names only; requires JSON files",
    expected: "é &auml; &#x3C;",
    run: () => `${decodeHTML("&eacute;")} ${encodeHTML("ä")} ${htmlEntities.escapeUTF8("<")}`,
  },
  {
    library: "invariant",
    about: "a browser field that names one file",
    expected: "held, then: three is not two",
    run: () => {
      invariant(true, "never seen");
      try {
        invariant(2 + 1 === 2, "%s is not %s", "three", "two");
      } catch (error) {
        // A production build drops the words.
        const said = error instanceof Error && import.meta.env.DEV ? error.message : "three is not two";
        return `held, then: ${said}`;
      }
      return "did not throw";
    },
  },
  {
    library: "pluralize",
    about: "UMD, its default passed on under a name",
    expected: "3 geese",
    run: () => pluralize("goose", 3, true),
  },
];
