import cx from "classnames";
import PropTypes, { type InferProps } from "prop-types";

const propTypes = {
  library: PropTypes.string.isRequired,
  about: PropTypes.string.isRequired,
  expected: PropTypes.string.isRequired,
  result: PropTypes.string,
};

export function Row({ library, about, expected, result }: InferProps<typeof propTypes>) {
  const ok = result === expected;

  return (
    <tr data-testid={library} data-ok={ok} className={cx({ wrong: result !== undefined && !ok })}>
      <th scope="row">{library}</th>
      <td>{about}</td>
      <td>
        <code>{result ?? "…"}</code>
        {result !== undefined && !ok && (
          <>
            {" "}
            instead of <code>{expected}</code>
          </>
        )}
      </td>
    </tr>
  );
}

Row.propTypes = propTypes;
