// users.js: who calls. Tokens hold `sub` and `tenantId`, and no scope.
import { jwtVerify } from 'jose';

const key = Buffer.from(process.env.JWT_SECRET);

export async function userOf(token) {
  const { payload } = await jwtVerify(token, key);
  return { id: payload.sub, tenantId: payload.tenantId };
}
